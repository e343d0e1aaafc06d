//! Arguments of the exercises.

use std::time::Duration;

use clap::{Args, Subcommand};

use super::values::{duration, whole};
use crate::spec::{Label, environment_name};

/// `lab`.
#[derive(Debug, Subcommand)]
pub enum LabCommand {
    /// List the exercises
    List,
    /// Set an exercise's starting state, whatever was there before, and show its page
    Start(StartExerciseArgs),
    /// Try the checkpoints, and say what is different from what they expect
    Check,
    /// Give one more hint
    Hint,
    /// Show the solution, apply it, and wait until it works
    Solve(PutArgs),
    /// Put back what up made; no exercise is begun then
    Reset(ResetArgs),
    /// Show which exercises are done
    Progress,
    /// Prepare environments for a room of people, each brought up and then paused
    Seats(SeatsArgs),
}

/// `lab start`.
#[derive(Debug, Args)]
pub struct StartExerciseArgs {
    /// The exercise
    #[arg(value_name = "N")]
    pub number: usize,
    /// How long setting it up may take: 30s, 5m
    #[arg(long, value_parser = duration, default_value = "3m", value_name = "TIME")]
    pub timeout: Duration,
}

/// `lab solve`.
#[derive(Debug, Args)]
pub struct PutArgs {
    /// How long applying it may take: 30s, 5m
    #[arg(long, value_parser = duration, default_value = "3m", value_name = "TIME")]
    pub timeout: Duration,
}

/// `lab reset`.
#[derive(Debug, Args)]
pub struct ResetArgs {
    /// Forget which exercises are done, too
    #[arg(long)]
    pub forget: bool,
    /// How long it may take: 30s, 5m
    #[arg(long, value_parser = duration, default_value = "3m", value_name = "TIME")]
    pub timeout: Duration,
}

/// `lab seats`.
#[derive(Debug, Args)]
pub struct SeatsArgs {
    /// How many
    #[arg(value_name = "N", value_parser = whole(1..=99u8), allow_negative_numbers = true)]
    pub count: u8,
    /// What their names begin with; a number follows
    #[arg(long, default_value = "seat", value_name = "NAME", value_parser = environment_name)]
    pub prefix: Label,
    /// How long each may take: 90s, 15m
    #[arg(long, value_parser = duration, default_value = "15m", value_name = "TIME")]
    pub timeout: Duration,
}
