//! Logs, metrics and access records: how the program tells what it does.
