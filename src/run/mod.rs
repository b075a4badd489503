//! The dispatcher: shares samples out to workers and makes their records durable.
