//! How a long run tells how far it is.

/// Hears of stages and steps. Stages do not overlap.
pub trait Progress: Sync {
    /// A stage begins; `total` steps are to come, 0 if not known.
    fn start(&self, stage: &str, total: u64);
    /// So many steps more are done.
    fn advance(&self, steps: u64);
    /// A part of the stage is done: what it was, in a few words.
    fn part(&self, what: &str);
    /// Something that the user should know, and that does not end the run.
    fn warn(&self, message: &str);
    /// The stage is done; `outcome` says in a few words what came of it.
    fn finish(&self, outcome: &str);
}

/// Hears nothing.
#[derive(Clone, Copy, Debug)]
pub struct Quiet;

impl Progress for Quiet {
    fn start(&self, _: &str, _: u64) {}
    fn advance(&self, _: u64) {}
    fn part(&self, _: &str) {}
    fn warn(&self, _: &str) {}
    fn finish(&self, _: &str) {}
}
