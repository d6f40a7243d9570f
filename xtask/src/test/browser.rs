//! The page of a trace in a real browser: Chromium without a window, told by its own protocol (the DevTools') through
//! pipes, with real keys and clicks. What it shows at the end is kept as a picture, to be looked at.

use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    path::Path,
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};
use trace::{read, select::Selection, synthetic};

use crate::{house, run::Built, setup};

/// Rounds of a made-up workload, which are a little more than so many messages.
const ROUNDS: u32 = 8000;
const MESSAGES_MIN: u64 = 100_000;
const LOAD_MAX: Duration = Duration::from_secs(3);
const WIDTH: u32 = 1400;
const HEIGHT: u32 = 900;
const PICTURE: &str = "page.png";

/// Opens a page, and uses it.
pub fn prove(_: &Built) -> Result<()> {
    let folder = tempfile::tempdir_in(house::target())?;
    let file = folder.path().join("t.html");
    let trace = read(&synthetic::trace(ROUNDS))?;
    fs::write(&file, trace::page::html(&trace, &Selection::new(&trace, "")?))?;
    let mut browser = Browser::new(folder.path())?;
    let begun = Instant::now();
    browser.open(&format!("file://{}", file.display()))?;
    browser.until("document.body?.dataset.ready")?;
    let took = begun.elapsed();
    let count = browser.value("COUNT")?.as_u64().unwrap_or_default();
    ensure!(count >= MESSAGES_MIN, "the page has {count} messages only");
    ensure!(took < LOAD_MAX, "the page takes {took:?} to load {count} messages");
    search_and_follow(&mut browser)?;
    let complaints = browser.complaints();
    ensure!(complaints.is_empty(), "the page complains: {complaints}");
    fs::write(house::target().join(PICTURE), browser.picture()?)?;
    Ok(())
}

/// Types a search, clicks what was found, goes to its cause by a click, and back by a key.
fn search_and_follow(browser: &mut Browser) -> Result<()> {
    browser.type_text("block.read -vfs")?;
    browser.until("found !== null")?;
    let strange = browser.value("shown.filter((i) => !line(i).includes('block.read')).length")?;
    ensure!(strange == 0, "{strange} lines are shown that were not searched for");
    browser.click(".row:nth-child(3)")?;
    ensure!(browser.value("chosen === shown[2]")? == true, "a click chooses something else");
    let effect = browser.value("chosen")?;
    ensure!(browser.text("#details")?.contains("Caused by"), "the message is not told");
    browser.click("#details h3 + a[data-item]")?;
    let cause = browser.value(&format!("chosen === rootOf({effect}) && chosen !== {effect}"))?;
    ensure!(cause == true, "a click on the cause leads elsewhere");
    ensure!(browser.text("#details")?.contains("openat("), "the cause is no openat");
    browser.click("[data-tab=sequence]")?;
    let arrows = browser.value("document.querySelectorAll('#sequence g').length")?;
    ensure!(arrows.as_u64() > Some(2), "the sequence has {arrows} arrows");
    browser.key("ArrowRight")?;
    ensure!(browser.value("chosen")? == effect, "a key does not lead to the effect");
    // Who opens the address of another sees the same.
    let address = browser.value("location.href")?;
    browser.open("about:blank")?;
    browser.open(address.as_str().unwrap_or_default())?;
    browser.until("document.body?.dataset.ready")?;
    ensure!(browser.value("chosen")? == effect, "{address} shows something else");
    Ok(())
}

/// A browser with one page.
struct Browser {
    child: Child,
    to: Option<ChildStdin>,
    from: BufReader<ChildStdout>,
    session: Value,
    number: u64,
    complaints: Vec<String>,
}

impl Browser {
    fn new(folder: &Path) -> Result<Browser> {
        let program = setup::ensure_for_test("chromium")?;
        // It listens to its fourth file and answers in its fifth.
        let line = format!(
            "exec {} --headless --no-sandbox --disable-gpu --hide-scrollbars --no-first-run --user-data-dir={} \
             --window-size={WIDTH},{HEIGHT} --remote-debugging-pipe 3<&0 4>&1 </dev/null >/dev/null 2>&1",
            program.display(),
            folder.join("profile").display()
        );
        let mut shell = Command::new("sh");
        shell.args(["-c", &line]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = shell.spawn().context("cannot run sh")?;
        let to = child.stdin.take();
        let from = BufReader::new(child.stdout.take().context("the browser has no answers")?);
        let mut browser =
            Browser { child, to, from, session: Value::Null, number: 0, complaints: Vec::new() };
        let target = browser.ask("Target.createTarget", json!({ "url": "about:blank" }))?;
        let attached = json!({ "targetId": target["targetId"], "flatten": true });
        browser.session = browser.ask("Target.attachToTarget", attached)?["sessionId"].clone();
        for domain in ["Runtime.enable", "Page.enable"] {
            browser.ask(domain, json!({}))?;
        }
        Ok(browser)
    }

    /// Asks for something, and waits for the answer.
    fn ask(&mut self, method: &str, parameters: Value) -> Result<Value> {
        self.number += 1;
        let mut message = json!({ "id": self.number, "method": method, "params": parameters });
        if !self.session.is_null() {
            message["sessionId"] = self.session.clone();
        }
        let to = self.to.as_mut().context("the browser has ended")?;
        to.write_all(format!("{message}\0").as_bytes())
            .and_then(|()| to.flush())
            .context("the browser is gone")?;
        loop {
            let mut bytes = Vec::new();
            let count = self.from.read_until(0, &mut bytes)?;
            ensure!(count > 0, "the browser has ended while it was asked for {method}");
            let mut answer: Value = serde_json::from_slice(bytes.strip_suffix(&[0]).unwrap_or(&bytes))?;
            if answer["method"] == "Runtime.exceptionThrown" {
                self.complaints.push(answer["params"].to_string());
            }
            if answer["id"] == self.number {
                ensure!(answer["error"].is_null(), "{method}: {}", answer["error"]);
                return Ok(answer["result"].take());
            }
        }
    }

    fn open(&mut self, address: &str) -> Result<()> {
        self.ask("Page.navigate", json!({ "url": address })).map(|_| ())
    }

    /// What an expression is on the page.
    fn value(&mut self, expression: &str) -> Result<Value> {
        let asked = json!({ "expression": expression, "returnByValue": true });
        let mut answer = self.ask("Runtime.evaluate", asked)?;
        ensure!(
            answer["exceptionDetails"].is_null(),
            "{expression}: {}",
            answer["exceptionDetails"]["exception"]
        );
        Ok(answer["result"]["value"].take())
    }

    fn text(&mut self, selector: &str) -> Result<String> {
        let text = self.value(&format!("document.querySelector({}).innerText", json!(selector)))?;
        Ok(text.as_str().unwrap_or_default().to_owned())
    }

    fn until(&mut self, expression: &str) -> Result<()> {
        let begun = Instant::now();
        while begun.elapsed() < 10 * LOAD_MAX {
            if !matches!(self.value(expression)?, Value::Null | Value::Bool(false)) {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        bail!("on the page it never comes to {expression}; it complains: {}", self.complaints())
    }

    /// Presses and releases the mouse's button in the middle of an element.
    fn click(&mut self, selector: &str) -> Result<()> {
        let expression = format!(
            "(() => {{ const box = document.querySelector({}).getBoundingClientRect();
             return [box.x + box.width / 2, box.y + box.height / 2]; }})()",
            json!(selector)
        );
        let place = self.value(&expression)?;
        for kind in ["mousePressed", "mouseReleased"] {
            let event =
                json!({ "type": kind, "x": place[0], "y": place[1], "button": "left", "clickCount": 1 });
            self.ask("Input.dispatchMouseEvent", event)?;
        }
        Ok(())
    }

    fn type_text(&mut self, text: &str) -> Result<()> {
        self.click("#search")?;
        self.ask("Input.insertText", json!({ "text": text })).map(|_| ())
    }

    fn key(&mut self, key: &str) -> Result<()> {
        for kind in ["keyDown", "keyUp"] {
            self.ask("Input.dispatchKeyEvent", json!({ "type": kind, "key": key, "code": key }))?;
        }
        Ok(())
    }

    fn complaints(&self) -> String {
        self.complaints.join("\n")
    }

    /// What is seen, as a PNG.
    fn picture(&mut self) -> Result<Vec<u8>> {
        let answer = self.ask("Page.captureScreenshot", json!({ "format": "png" }))?;
        decoded(answer["data"].as_str().unwrap_or_default())
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // It ends when nobody speaks to it any more; its answers are read so that it can.
        self.to = None;
        let _ = self.from.read_to_end(&mut Vec::new());
        let _ = self.child.wait();
    }
}

/// The bytes that a text in base 64 stands for.
fn decoded(text: &str) -> Result<Vec<u8>> {
    const LETTERS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let (mut bytes, mut word, mut bits) = (Vec::new(), 0_u32, 0);
    for letter in text.trim_end_matches('=').bytes() {
        let place = LETTERS.iter().position(|known| *known == letter).context("this is not base 64")?;
        (word, bits) = (word << 6 | place as u32, bits + 6);
        if bits >= 8 {
            bits -= 8;
            bytes.push((word >> bits) as u8);
        }
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base_64_is_read() {
        assert_eq!(decoded("bmFpYWQ=").unwrap(), b"naiad");
        assert_eq!(decoded("AAECAw==").unwrap(), [0, 1, 2, 3]);
        assert!(decoded("a b").is_err());
    }
}
