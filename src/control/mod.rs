//! The control plane: authority, configuration, API, the merged view.
