//! Writes a trace that no machine has made: `cargo run -p trace --example synthetic -- ROUNDS FILE`.

fn main() -> std::io::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let (rounds, file) = (arguments.next(), arguments.next());
    match (rounds.and_then(|rounds| rounds.parse().ok()), file) {
        (Some(rounds), Some(file)) => std::fs::write(file, trace::synthetic::trace(rounds)),
        _ => Err(std::io::Error::other("expected: ROUNDS FILE")),
    }
}
