//! `cargo xtask trace`: what a trace tells, in one of its forms. The `trace` crate makes them; here files are opened.

use std::{fs, io::Write, path::Path};

use anyhow::{Context, Result, anyhow};
use trace::{model::Trace, select::Selection};

use crate::{
    cli::{Form, Picture, TraceArgs, TreeArgs},
    terminal::tell,
};

/// Shows a trace. The status to end with is 0, or 1 when nothing is chosen.
pub fn run(args: &TraceArgs) -> Result<u8> {
    let file = fs::read(&args.file).with_context(|| format!("cannot read {}", args.file.display()))?;
    let trace = trace::read(&file).with_context(|| format!("cannot show {}", args.file.display()))?;
    for note in &trace.notes {
        tell(&format!("trace: {note}"));
    }
    match &args.form {
        None => text(&trace, &[], trace::summary::summary),
        Some(Form::Summary { expression }) => text(&trace, expression, trace::summary::summary),
        Some(Form::Tree(args)) => tree(&trace, args),
        Some(Form::Grep { expression }) => text(&trace, expression, trace::tree::grep),
        Some(Form::Seq(picture)) => {
            draw(&trace, picture, |trace, selection| Ok(trace::sequence::svg(trace, selection).into_bytes()))
        }
        Some(Form::Perfetto(picture)) => {
            draw(&trace, picture, |trace, selection| Ok(trace::perfetto::file(trace, selection)))
        }
        Some(Form::Html(picture)) => {
            draw(&trace, picture, |trace, selection| Ok(trace::page::html(trace, selection).into_bytes()))
        }
        Some(Form::Pcapng { output, dissector }) => pcapng(&file, &trace, output, dissector.as_deref()),
    }
}

fn selection<'a>(trace: &'a Trace, expression: &str) -> Result<Selection<'a>> {
    Selection::new(trace, expression).map_err(|error| anyhow!("{error}"))
}

/// A form that is read on the terminal, or by the next program of a pipe, which may have enough of it.
fn text(trace: &Trace, expression: &[String], form: impl Fn(&Trace, &Selection<'_>) -> String) -> Result<u8> {
    let text = form(trace, &selection(trace, &expression.join(" "))?);
    // Whoever reads may stop: `… | head`.
    let _ = std::io::stdout().write_all(text.as_bytes());
    Ok(u8::from(text.is_empty()))
}

fn tree(trace: &Trace, args: &TreeArgs) -> Result<u8> {
    let mut parts: Vec<String> = Vec::new();
    parts.extend(args.id.iter().map(|id| format!("id={}", hexadecimal(id))));
    parts.extend(args.pid.iter().map(|pid| format!("pid={pid}")));
    if !args.expression.is_empty() {
        parts.push(format!("({})", args.expression.join(" ")));
    }
    let options = trace::tree::Options { traps: args.traps };
    text(trace, &parts, |trace, selection| {
        if args.strace {
            trace::tree::strace(trace, selection)
        } else {
            trace::tree::tree(trace, selection, options)
        }
    })
}

/// A call's name as trees print it, with or without what stands before it.
fn hexadecimal(id: &str) -> String {
    format!("0x{}", id.trim_start_matches('#').trim_start_matches("0x"))
}

fn draw(
    trace: &Trace,
    picture: &Picture,
    form: impl Fn(&Trace, &Selection<'_>) -> Result<Vec<u8>>,
) -> Result<u8> {
    let bytes = form(trace, &selection(trace, &picture.expression.join(" "))?)?;
    write(&picture.output, &bytes)
}

fn pcapng(file: &[u8], trace: &Trace, output: &Path, dissector: Option<&Path>) -> Result<u8> {
    write(output, &trace::pcapng::file(file, trace)?)?;
    let dissector = dissector.map_or_else(|| output.with_extension("lua"), Path::to_owned);
    write(&dissector, trace::dissector::lua(trace).as_bytes())?;
    tell(&format!("trace: wireshark -X lua_script:{} {}", dissector.display(), output.display()));
    Ok(0)
}

fn write(path: &Path, bytes: &[u8]) -> Result<u8> {
    fs::write(path, bytes).with_context(|| format!("cannot write {}", path.display()))?;
    tell(&format!("trace: {} ({} KiB)", path.display(), bytes.len().div_ceil(1024)));
    Ok(0)
}
