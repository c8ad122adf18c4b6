"""Everything that touches a target: connections, and the forwarder that moves both bodies."""
