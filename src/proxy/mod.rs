//! The data plane: every call between services, over mutual TLS.
