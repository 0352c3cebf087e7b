"""Clusters of real processes, each member in a network namespace of its own, as containers have them.

Everything here runs as the first process of fresh mount, network and process namespaces (see `isolation`): whatever
happens to it, the kernel takes bridges, members and processes away.
"""
