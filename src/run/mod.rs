//! The dispatcher: shares samples out to workers and follows their events.

pub mod dispatcher;
pub mod event;
pub mod heart;
pub mod live;
pub mod scheduler;
pub mod signal;

pub use dispatcher::{Dispatcher, Launch};
pub use event::{RunEvent, RunSummary};
pub use heart::Identity;
pub use live::Live;
pub use scheduler::{Action, Blame, Limits, Scheduler};
