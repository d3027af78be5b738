//! Several nodes on one ledger, disturbed by chance: who dies, freezes, leaves, is cut off or hears nothing, and when, follows from the seed.
//!
//! ```text
//! plan    what happens when: plain data from a seed
//! scene   the nodes, the CQL server, the simulator, and the lines between them
//! act     one disturbance, from its beginning to its end
//! work    customers meanwhile: campaigns from their creation to their end, through whichever node answers
//! owners  who owned which pool when, by the nodes' own logs
//! run     all of it, in rounds with a check at the end of each
//! figures how long lines are silent when their owner changes, and what the wrong node costs a webhook
//! ```

pub mod act;
pub mod figures;
pub mod owners;
pub mod plan;
pub mod run;
pub mod scene;
pub mod work;

pub use run::{Order, Outcome, run};
