//! Driving the gossip protocol over real sockets: how a node joins, speaks and leaves.
