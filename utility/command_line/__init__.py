"""What every command shares: flags, exit codes and messages (scripts.py), progress bars."""
