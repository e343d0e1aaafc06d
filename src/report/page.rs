//! A page that needs nothing else: to attach to a ticket, to keep with a build, to print.

/// A whole HTML document of what stands in its `main`, without scripts, and with nothing that is loaded from elsewhere.
/// `title`, `style` and `main` are taken as they are: what comes from a cluster has to be escaped before.
pub(super) fn document(title: &str, style: &str, main: &str) -> String {
    // The policy keeps a browser from loading or running anything, whatever stands in it.
    format!(
        r#"<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{title}</title>
<style>
{style}</style>
</head>
<body>
<main>
{main}</main>
</body>
</html>
"#
    )
}
