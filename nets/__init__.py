"""Networks: any registered backbone with any registered head."""

from nets.backbones import BACKBONES
from nets.heads import HEADS
from nets.network import Network, build_network, num_parameters

__all__ = ['BACKBONES', 'HEADS', 'Network', 'build_network', 'num_parameters']
