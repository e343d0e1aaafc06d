//! Questions to the user.

use std::io::{BufRead, IsTerminal};

use crate::base::event::Events;

/// Whether the user can be asked: input and messages are those of a terminal.
pub fn can_ask() -> bool {
    std::io::stdin().is_terminal() && std::io::stderr().is_terminal()
}

/// Asks a question, and returns whether the answer is yes. Waits for the answer: it is asked between steps, while nothing runs.
pub fn ask(events: &Events, question: &str) -> bool {
    events.note(format!("{question} Type yes, or anything else to stop:"));
    let mut answer = String::new();
    match std::io::stdin().lock().read_line(&mut answer) {
        Ok(_) => is_yes(&answer),
        Err(_) => false,
    }
}

fn is_yes(answer: &str) -> bool {
    matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_yes_is_yes() {
        assert!(is_yes("yes\n") && is_yes(" Y "));
        assert!(!is_yes("") && !is_yes("\n") && !is_yes("no") && !is_yes("yess"));
    }
}
