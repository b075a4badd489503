//! Progress and messages for people.
