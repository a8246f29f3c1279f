"""Training on several devices and machines: strategies, the cluster, what watches over it."""
