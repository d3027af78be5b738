//! A scenario, from its file to its report.
//!
//! ```text
//! stage      server, simulator, customer, and what happens on them
//! campaigns  made, started by schedule, followed by others, waited for
//! disturb    what goes wrong, at its time          (flood: webhooks by schedule)
//! pairs      the floor and the engine in turn      (floor: the bare client and receiver)
//! ear        when and by which line whose messages came
//! evidence   what all that left behind → figures
//! drive      one run from begin to verdict
//! repeat     several runs → one report             (figures: a table over several scenarios)
//! ```

pub mod campaigns;
pub mod disturb;
pub mod drive;
pub mod ear;
pub mod evidence;
pub mod figures;
pub mod flood;
pub mod floor;
pub mod pairs;
pub mod repeat;
pub mod stage;
pub mod wait;
