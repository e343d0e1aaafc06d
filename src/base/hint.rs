//! Commands for the hints of errors.

/// Returns the command that creates or repairs an environment.
pub fn up_hint(name: &str) -> String {
    command_on("up", name)
}

/// Returns the command that deletes an environment.
pub fn down_hint(name: &str) -> String {
    command_on("down", name)
}

/// Returns the command that resumes a paused environment.
pub fn resume_hint(name: &str) -> String {
    command_on("resume", name)
}

/// Returns the command that starts a stopped environment.
pub fn start_hint(name: &str) -> String {
    command_on("start", name)
}

/// Returns the command that ends all faults of an environment.
pub fn clear_hint(name: &str) -> String {
    command_on("fault clear", name)
}

/// Returns the command that stops the istiod of a cluster.
pub fn kill_istiod_hint(name: &str, cluster: &str) -> String {
    command_on(&format!("fault kill-istiod {cluster}"), name)
}

fn command_on(command: &str, name: &str) -> String {
    match name {
        "kindmesh" => format!("kindmesh {command}"),
        _ => format!("kindmesh {command} --name {name}"),
    }
}
