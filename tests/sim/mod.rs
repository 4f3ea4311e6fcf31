//! Clusters in virtual time.
