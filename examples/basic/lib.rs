//! The examples are in the directory above; this package has their dependencies.
