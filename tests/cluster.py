"""A Ray cluster of two nodes on this machine, until standard input ends; prints its address."""

import os
import sys

from ray.cluster_utils import Cluster

os.environ.setdefault("RAY_worker_niceness", "5")
cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 2, "include_dashboard": False})
cluster.add_node(num_cpus=2)
cluster.wait_for_nodes()
sys.stdout.write(cluster.address + "\n")
sys.stdout.flush()
sys.stdin.read()
cluster.shutdown()
