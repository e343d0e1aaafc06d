//! `kindmesh lab`

use std::time::Duration;

use clap::{Args, Subcommand};
use serde_json::json;
use tokio::time::Instant;

use super::{Context, Description, Done, Task, kept};
use crate::apps::labs::{self, Applied, Change, Checked, Exercise, Labs, Progress, Seats, Tried};
use crate::base::error::Kind;
use crate::cli::values::{duration, whole};
use crate::cluster::environment::Environment;
use crate::report::{Style, Table};
use crate::spec::{Label, environment_name};

/// How long the engine may take to respond.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(10);

/// `lab`.
#[derive(Debug, Subcommand)]
pub enum LabCommand {
    /// List the exercises
    List,
    /// Set up an exercise, whatever the state of the environment, and print its text
    Start(StartExerciseArgs),
    /// Run the checks of the exercise, and show differences from the solution
    Check,
    /// Print the next hint
    Hint,
    /// Print the solution, apply it, and wait until it works
    Solve(PutArgs),
    /// Restore the environment as up created it
    Reset(ResetArgs),
    /// Show which exercises are done
    Progress,
    /// Create and pause an environment for each participant of a workshop
    Seats(SeatsArgs),
}

/// `lab start`.
#[derive(Debug, Args)]
pub struct StartExerciseArgs {
    /// Number of the exercise
    #[arg(value_name = "N")]
    pub number: usize,
    /// Timeout of the setup, such as 30s or 5m
    #[arg(long, value_parser = duration, default_value = "3m", value_name = "TIME")]
    pub timeout: Duration,
}

/// `lab solve`.
#[derive(Debug, Args)]
pub struct PutArgs {
    /// Timeout, such as 30s or 5m
    #[arg(long, value_parser = duration, default_value = "3m", value_name = "TIME")]
    pub timeout: Duration,
}

/// `lab reset`.
#[derive(Debug, Args)]
pub struct ResetArgs {
    /// Also reset the record of completed exercises
    #[arg(long)]
    pub forget: bool,
    /// Timeout, such as 30s or 5m
    #[arg(long, value_parser = duration, default_value = "3m", value_name = "TIME")]
    pub timeout: Duration,
}

/// `lab seats`.
#[derive(Debug, Args)]
pub struct SeatsArgs {
    /// Number of seats
    #[arg(value_name = "N", value_parser = whole(1..=99u8), allow_negative_numbers = true)]
    pub count: u8,
    /// Prefix of the environments' names; a number follows
    #[arg(long, default_value = "seat", value_name = "NAME", value_parser = environment_name)]
    pub prefix: Label,
    /// Timeout of each seat, such as 90s or 15m
    #[arg(long, value_parser = duration, default_value = "15m", value_name = "TIME")]
    pub timeout: Duration,
}

pub fn command(command: LabCommand) -> Task {
    Task::new(
        Description { after_signal: Some(kept), ends_outages: true, ..Description::of("lab") },
        async move |context| run(context, &command).await,
    )
}

async fn run(context: &Context, command: &LabCommand) -> anyhow::Result<Done> {
    match command {
        LabCommand::List => return list(context),
        LabCommand::Seats(args) => return seats(context, args).await,
        _ => {}
    }
    context.require_own_nodes("lab")?;
    let deadline = Instant::now() + timeout(command);
    let environment = Environment::open(&context.folders, &context.environment_name()?)?;
    let labs = Labs::of(&environment, deadline, &context.folders, &context.events).await?;
    match command {
        LabCommand::Start(args) => {
            let exercise = Exercise::of(args.number)?;
            let put = labs.start(exercise, deadline).await?;
            begun(context, exercise, &put)
        }
        LabCommand::Check => checked(context, &labs.check().await?),
        LabCommand::Hint => {
            let (exercise, given) = labs.hint().await?;
            hints(context, exercise, given)
        }
        LabCommand::Solve(_) => {
            let (exercise, put) = labs.solve(deadline).await?;
            solved(context, exercise, &put)
        }
        LabCommand::Reset(args) => {
            let changes = labs.reset(args.forget, deadline).await?;
            reset(context, &changes)
        }
        LabCommand::Progress => progress(context, &environment, &labs.progress()?),
        // Handled above.
        LabCommand::List | LabCommand::Seats(_) => Ok(Done::default()),
    }
}

/// Returns the timeout of the whole command. Commands without the option only query the engine, which has its own
/// timeout.
fn timeout(command: &LabCommand) -> Duration {
    match command {
        LabCommand::Start(args) => args.timeout,
        LabCommand::Solve(args) => args.timeout,
        LabCommand::Reset(args) => args.timeout,
        _ => RESPONSE_TIMEOUT,
    }
}

fn list(context: &Context) -> anyhow::Result<Done> {
    if context.is_json() {
        let exercises: Vec<_> = Exercise::all().iter().map(Exercise::listed).collect();
        return Done::json(&json!({"schemaVersion": 1, "exercises": exercises}));
    }
    let mut table = Table::new(["NUMBER", "EXERCISE", "MINUTES", "GOAL"]);
    for exercise in Exercise::all() {
        let minutes = exercise.minutes.to_string();
        table.row([exercise.number.to_string(), exercise.title.clone(), minutes, exercise.goal.clone()]);
    }
    Ok(Done::text(table.render(context.printer.stdout_style())))
}

fn begun(context: &Context, exercise: &Exercise, put: &Applied) -> anyhow::Result<Done> {
    if context.is_json() {
        return Done::json(&json!({"schemaVersion": 1, "exercise": exercise.listed(), "page": exercise.page(),
            "changes": put.changes, "checkpoints": put.checkpoints}));
    }
    let style = context.printer.stdout_style();
    let mut text = exercise.page().trim_end().to_owned();
    text.push_str(&format!("\n\n{}\n", style.bold("The exercise is set up, and its checks fail as expected")));
    text.push_str(&changes(&put.changes));
    for tried in &put.checkpoints {
        text.push_str(&format!("  {}: now {}\n", tried.claim, tried.seen));
    }
    text.push_str("\nkindmesh lab check checks your solution; kindmesh lab hint prints a hint");
    Ok(Done::text(text))
}

fn checked(context: &Context, checked: &Checked) -> anyhow::Result<Done> {
    let code = if checked.passed { 0 } else { Kind::Check.exit_code() };
    if context.is_json() {
        let done = Done::json(&json!({"schemaVersion": 1, "exercise": checked.exercise.listed(),
            "passed": checked.passed, "checkpoints": checked.checkpoints, "different": checked.different}))?;
        return Ok(Done { code, ..done });
    }
    let style = context.printer.stdout_style();
    let mut text = points(&checked.checkpoints, style);
    if !checked.different.is_empty() {
        text.push_str(&format!("\n{}\n", style.bold("Differences from the solution")));
        checked.different.iter().for_each(|different| text.push_str(&format!("  {different}\n")));
    }
    let number = checked.exercise.number;
    text.push_str(&match (checked.passed, Exercise::of(number + 1)) {
        (true, Ok(next)) => {
            format!("\nExercise {number} is done. Next: kindmesh lab start {}    {}", next.number, next.title)
        }
        (true, Err(_)) => {
            format!("\nExercise {number}, the last one, is done. kindmesh lab reset restores the environment.")
        }
        (false, _) => format!("\nExercise {number} is not done yet. kindmesh lab hint prints a hint."),
    });
    Ok(Done { code, ..Done::text(text) })
}

fn points(tried: &[Tried], style: Style) -> String {
    let mut text = String::new();
    for tried in tried {
        match tried.works {
            Some(true) => text.push_str(&format!("{} {}\n    {}\n", style.green("✓"), tried.claim, tried.seen)),
            Some(false) => {
                text.push_str(&format!("{} {}\n", style.red("✗"), tried.claim));
                text.push_str(&format!("    expected: {}\n    got:      {}\n", tried.expected, tried.seen));
                text.push_str(match tried.as_at_first {
                    true => "    unchanged since the start\n",
                    false => "    changed, but not correct yet\n",
                });
            }
            None => {
                text.push_str(&format!("- {}\n    skipped: an earlier check failed\n", tried.claim));
            }
        }
    }
    text
}

fn hints(context: &Context, exercise: &Exercise, given: usize) -> anyhow::Result<Done> {
    let (all, given) = (exercise.hints.len(), &exercise.hints[..given]);
    if context.is_json() {
        return Done::json(&json!({"schemaVersion": 1, "exercise": exercise.listed(), "hints": given, "of": all}));
    }
    let mut lines: Vec<_> =
        given.iter().enumerate().map(|(index, hint)| format!("{} of {all}: {hint}", index + 1)).collect();
    if given.len() == all {
        lines.push("No more hints; kindmesh lab solve prints and applies the solution.".into());
    }
    Ok(Done::text(lines.join("\n")))
}

fn solved(context: &Context, exercise: &Exercise, put: &Applied) -> anyhow::Result<Done> {
    let answer = exercise.answer();
    if context.is_json() {
        let answer: Vec<_> = answer
            .iter()
            .map(|(side, path, text)| json!({"side": side, "path": path, "manifest": text}))
            .collect();
        return Done::json(&json!({"schemaVersion": 1, "exercise": exercise.listed(), "solution": answer,
            "changes": put.changes, "checkpoints": put.checkpoints}));
    }
    let style = context.printer.stdout_style();
    let mut text = String::new();
    for (side, path, manifest) in answer {
        let title = format!("{path}, in the {side}'s cluster");
        text.push_str(&format!("{}\n\n{}\n\n", style.bold(&title), indented(manifest)));
    }
    text.push_str(&format!("{}\n{}\n", style.bold("The solution is applied and works"), changes(&put.changes)));
    text.push_str(&points(&put.checkpoints, style));
    Ok(Done::text(text))
}

fn reset(context: &Context, changed: &[Change]) -> anyhow::Result<Done> {
    if context.is_json() {
        return Done::json(&json!({"schemaVersion": 1, "changes": changed}));
    }
    let text = match changed.is_empty() {
        true => "Nothing to restore: the environment is as up created it.".into(),
        false => format!("Environment restored to the state that up creates:\n{}", changes(changed)),
    };
    Ok(Done::text(text))
}

fn progress(context: &Context, environment: &Environment, progress: &Progress) -> anyhow::Result<Done> {
    if context.is_json() {
        return Done::json(&json!({"schemaVersion": 1, "environment": environment.name(),
            "current": progress.current, "exercises": progress.exercises}));
    }
    let mut table = Table::new(["NUMBER", "EXERCISE", "STATE", "CHECKS", "HINTS"]);
    for exercise in Exercise::all() {
        let attempt = progress.of(exercise);
        let current = progress.current.as_ref() == Some(&exercise.id);
        let state = match attempt {
            Some(attempt) if attempt.passed.is_some() && attempt.shown => "done, after the solution was shown",
            Some(attempt) if attempt.passed.is_some() => "done",
            Some(_) if current => "in progress",
            Some(_) => "started",
            None => "-",
        };
        let state =
            if current && state != "in progress" { format!("{state}, set up now") } else { state.to_owned() };
        let count = |number: Option<String>| number.unwrap_or_else(|| "-".into());
        table.row([
            exercise.number.to_string(),
            exercise.title.clone(),
            state,
            count(attempt.map(|attempt| attempt.checks.to_string())),
            count(attempt.map(|attempt| attempt.hints.to_string())),
        ]);
    }
    Ok(Done::text(table.render(context.printer.stdout_style())))
}

async fn seats(context: &Context, args: &SeatsArgs) -> anyhow::Result<Done> {
    let wanted = Seats {
        count: args.count,
        prefix: args.prefix.clone(),
        timeout: args.timeout,
        interrupt: context.interrupt.clone(),
    };
    let seats = labs::seats(&context.load()?, &wanted, &context.folders, &context.events).await?;
    if context.is_json() {
        return Done::json(&json!({"schemaVersion": 1, "seats": seats}));
    }
    let mut text = String::new();
    for seat in &seats {
        let was = if seat.was_there { ", prepared earlier" } else { "" };
        text.push_str(&format!("Seat {} is paused{was}\n", seat.environment));
        text.push_str(&format!("  {}; eval \"$(kindmesh env --name {})\"\n", seat.resume, seat.environment));
    }
    text.push_str("In that shell, every kindmesh command uses that seat: kindmesh lab start 1");
    Ok(Done::text(text))
}

fn changes(changes: &[Change]) -> String {
    changes.iter().map(|change| format!("  {}\n", change.describe())).collect()
}

fn indented(text: &str) -> String {
    text.trim_end().lines().map(|line| format!("    {line}").trim_end().to_owned()).collect::<Vec<_>>().join("\n")
}
