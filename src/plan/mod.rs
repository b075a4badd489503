//! From what the user wrote to what will run.
