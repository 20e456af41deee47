//! Two generations side by side: which one a request gets, and what becomes of the next one.
//!
//! [`choose`](choose::choose) and [`judge`](judge::judge) decide, over data and with the time as an
//! argument; [`tally`] is what they go by. Who starts, publishes and ends generations is the
//! [`Supervisor`](crate::supervisor::Supervisor), and who sends requests to them is
//! [`ingress`](crate::ingress): neither is known here.

pub mod choose;
pub mod judge;
pub mod report;
pub mod shadow;
pub mod tally;
