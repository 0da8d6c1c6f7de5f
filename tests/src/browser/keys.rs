//! What somebody does on a page without a mouse: real keys, pressed on what can be reached by Tab.
//!
//! Where Tab leads, and in which order, the walks of `pages_by_keys*.rs` tell, which go by Tab alone. Here the focus is put there at
//! once, for speed, on nothing where Tab would not come to; and whoever stood somewhere must not have been put off it meanwhile.

use super::{Browser, SOON};
use fantoccini::actions::{InputSource, KeyAction, KeyActions};
use fantoccini::key::Key;
use serde_json::Value;
use std::time::Duration;
use tokio::time::{Instant, interval};

/// `nameOf(element)`: what it is called, also for those who can't see it. `place(element)`: the same, or that it is nothing.
const NAMES: &str = "
    const textOf = (one) => [...one.childNodes].filter((node) => node.nodeType === Node.TEXT_NODE).map((node) => node.data).join(' ').trim();
    const nameOf = (one) => {
        const label = one.labels?.[0];
        return (one.getAttribute('aria-label') ?? (label ? label.querySelector('span')?.innerText || textOf(label) : one.innerText) ?? '').trim();
    };
    const placeOf = (one) => !one || one === document.body || one === document.documentElement ? null
        : one.id === 'main' ? 'main' : nameOf(one) || one.tagName;";

/// `stand(all)`: goes to the first of these that Tab leads to, and says what it is; or why there is none. What a key then falls
/// on is kept in `window.stood`.
const STAND: &str = "
    const whyNot = (one) => {
        if (!one.checkVisibility({ visibilityProperty: true }) || !one.getClientRects().length) return 'is not shown';
        if (one.disabled || one.ariaDisabled === 'true') return 'is disabled';
        if (one.tabIndex < 0) return 'is passed over by Tab';
        one.focus();
        return document.activeElement === one ? '' : 'can not be stood on';
    };
    const stand = (all) => {
        const { stood } = window;
        const lost = stood && placeOf(document.activeElement) === null ? stood.name : null;
        const found = all.find((one) => !whyNot(one));
        if (!found) return { why: all.map((one) => `${nameOf(one)} ${whyNot(one)}`).join(', ') || 'there is none' };
        const now = { name: placeOf(found), at: null };
        document.addEventListener('keydown', (event) => { now.at ??= placeOf(event.target) ?? 'nothing'; }, { capture: true, once: true });
        window.stood = now;
        const { tagName: tag, type = '', selectedIndex: chosen = -1 } = found;
        return { name: now.name, lost, tag, type, chosen, options: [...found.options ?? []].map((one) => one.value) };
    };";

/// On what one stands, and whether one sees that: it has a ring around it and is in the window, also where the page has grown above it
/// meanwhile, as when a list comes that was asked for.
const RING: &str = "
    const at = document.activeElement;
    const { outlineStyle, outlineWidth } = getComputedStyle(at);
    const box = at.getBoundingClientRect();
    const here = box.bottom > 0 && box.top < innerHeight && box.right > 0 && box.left < innerWidth;
    const seen = placeOf(at) === null || (outlineStyle !== 'none' && parseFloat(outlineWidth) > 0 && here);
    return [placeOf(at), seen, `outline ${outlineStyle}, from ${box.top} to ${box.bottom} of ${innerHeight}`]";

/// On what one stands.
struct Stood {
    name: String,
    tag: String,
    kind: String,
    /// Of a list to choose from: what there is, and which of these is chosen.
    options: Vec<String>,
    chosen: i64,
}

impl Browser {
    /// Presses the first button or link of this name.
    pub async fn press(&self, name: &str) {
        self.press_in("main", name).await;
    }

    /// The same of this part of the page.
    pub async fn press_in(&self, part: &str, name: &str) {
        let kinds = ["button", "a", "summary"].map(|kind| format!("{part} {kind}")).join(", ");
        let reads = format!("one.innerText.trim() === {}", Value::from(name));
        self.press_found(name, &kinds, &reads).await;
    }

    /// The same under this heading.
    pub async fn press_under(&self, heading: &str, name: &str) {
        let reads = format!("one.innerText.trim() === {} && {}", Value::from(name), under(heading));
        self.press_found(name, "main button, main a, main summary", &reads).await;
    }

    /// Presses what has this name for those who can't see it: of buttons that read alike, one.
    pub async fn press_labeled(&self, label: &str) {
        let is = format!("one.getAttribute('aria-label') === {}", Value::from(label));
        self.press_found(label, "[aria-label]", &is).await;
    }

    /// Ticks the box of this label, or takes the tick away.
    pub async fn tick(&self, label: &str) {
        self.press_found(label, "main [type=checkbox]", &format!("nameOf(one) === {}", Value::from(label))).await;
    }

    async fn press_found(&self, name: &str, kinds: &str, is: &str) {
        let begin = Instant::now();
        while begin.elapsed() < SOON {
            let stood = self.stand(name, kinds, is).await;
            let key = if stood.kind == "checkbox" { " ".to_owned() } else { Key::Enter.to_string() };
            self.type_keys(&key).await;
            if self.fell(&stood.name).await {
                return;
            }
        }
        panic!("no key reaches `{name}`");
    }

    /// Goes to what has this name, without pressing it.
    pub async fn go_to(&self, name: &str) {
        let all = "main a, main button, main input, main select, main textarea, main summary, main [tabindex]";
        self.stand(name, all, &format!("nameOf(one) === {}", Value::from(name))).await;
    }

    /// Whether the key fell on what one stood on. If not, it may be pressed again: nothing has heard it.
    async fn fell(&self, name: &str) -> bool {
        let asked = self.client.execute("return window.stood ? [window.stood.at] : null", Vec::new()).await;
        // Of a page that it led away from there is nothing to ask.
        let Ok(Value::Array(told)) = asked else { return true };
        let Some(at) = told[0].as_str() else { return false };
        assert_eq!(at, name, "one stood on the second, and the key fell on the first");
        true
    }

    /// Goes to the first of these that Tab leads to, as soon as there is one.
    async fn stand(&self, name: &str, kinds: &str, is: &str) -> Stood {
        let script =
            format!("{NAMES}{STAND} return stand([...document.querySelectorAll(`{kinds}`)].filter((one) => {is}))");
        let mut tick = interval(Duration::from_millis(50));
        let begin = Instant::now();
        loop {
            tick.tick().await;
            let told = self.ask(&script).await;
            if let Some(why) = told["why"].as_str() {
                assert!(begin.elapsed() < SOON, "nobody without a mouse comes to `{name}`: {why}");
                continue;
            }
            assert!(told["lost"].is_null(), "one stood on {}, and before `{name}` on nothing any more", told["lost"]);
            let text = |key: &str| told[key].as_str().unwrap_or_default().to_owned();
            let options = told["options"].as_array().into_iter().flatten();
            return Stood {
                name: text("name"),
                tag: text("tag"),
                kind: text("type"),
                options: options.filter_map(Value::as_str).map(str::to_owned).collect(),
                chosen: told["chosen"].as_i64().unwrap_or(-1),
            };
        }
    }

    /// Writes into the field of this label, in the place of what is there.
    pub async fn write(&self, label: &str, text: &str) {
        self.write_at(label, "true", text).await;
    }

    /// The same under this heading.
    pub async fn write_under(&self, heading: &str, label: &str, text: &str) {
        self.write_at(label, &under(heading), text).await;
    }

    async fn write_at(&self, label: &str, place: &str, text: &str) {
        let is = format!("nameOf(one) === {} && {place}", Value::from(label));
        let stood = self.stand(label, "input, select, textarea", &is).await;
        match (stood.tag.as_str(), stood.kind.as_str()) {
            ("SELECT", _) => self.choose(&stood, text).await,
            (_, "file") => {
                self.hand_over(text).await;
                return;
            }
            // A day is typed by its parts, each in its own place, in the order of the language that the browser speaks.
            (_, "date") => {
                let parts: Vec<&str> = text.split('-').collect();
                self.type_keys(&format!("{}{}{}", parts[1], parts[2], parts[0])).await;
            }
            _ => self.replace(text).await,
        }
        let script = format!("{NAMES} const at = document.activeElement; return [placeOf(at), at.value]");
        let written = self.ask(&script).await;
        assert_eq!(written, Value::from([stood.name.as_str(), text]), "what was written into `{label}`");
    }

    /// Chooses by the arrow keys.
    async fn choose(&self, stood: &Stood, value: &str) {
        let wanted = stood.options.iter().position(|option| option == value);
        let wanted = wanted.unwrap_or_else(|| panic!("`{}` has no `{value}`, but {:?}", stood.name, stood.options));
        let by = i64::try_from(wanted).expect("few") - stood.chosen;
        let key = if by > 0 { Key::Down } else { Key::Up };
        self.type_keys(&key.to_string().repeat(usize::try_from(by.abs()).expect("few"))).await;
    }

    async fn replace(&self, text: &str) {
        let (control, all) = (char::from(Key::Control), 'a');
        let chosen = KeyActions::new("keys".to_owned())
            .then(KeyAction::Down { value: control })
            .then(KeyAction::Down { value: all })
            .then(KeyAction::Up { value: all })
            .then(KeyAction::Up { value: control });
        self.client.perform_actions(chosen).await.expect("what is there can be chosen");
        self.type_keys(&Key::Delete.to_string()).await;
        self.type_keys(text).await;
    }

    /// Has the browser ask for a file where one stands, and gives it one: where it asks is its own window, which keys of a page do not reach.
    pub async fn hand_over(&self, files: &str) {
        let asks = "window.asked = false;
                    document.activeElement.addEventListener('click', (event) => {
                        event.preventDefault();
                        window.asked = true;
                    }, { once: true })";
        self.ask(asks).await;
        self.type_keys(&Key::Enter.to_string()).await;
        self.wait("a key has the browser ask for a file", "return window.asked").await;
        let field = self.client.active_element().await.expect("one stands on it");
        field.send_keys(files).await.expect("it takes files");
    }

    /// Presses keys where one stands, as somebody without a mouse does.
    pub async fn type_keys(&self, keys: &str) {
        // Not those of an element: a field for files would take Tab for the name of one.
        let presses = keys.chars().fold(KeyActions::new("keys".to_owned()), |presses, value| {
            presses.then(KeyAction::Down { value }).then(KeyAction::Up { value })
        });
        self.client.perform_actions(presses).await.unwrap_or_else(|error| panic!("`{keys}` can't be typed: {error}"));
    }

    /// Goes on by Tab until one stands on what has this name: its label, or else its text. Wherever one comes by, it is seen.
    pub async fn tab_to(&self, name: &str) {
        let forward = KeyActions::new("keys".to_owned())
            .then(KeyAction::Down { value: char::from(Key::Tab) })
            .then(KeyAction::Up { value: char::from(Key::Tab) });
        self.go_by(forward, name).await;
    }

    /// The same the other way.
    pub async fn tab_back_to(&self, name: &str) {
        let back = KeyActions::new("keys".to_owned())
            .then(KeyAction::Down { value: char::from(Key::Shift) })
            .then(KeyAction::Down { value: char::from(Key::Tab) })
            .then(KeyAction::Up { value: char::from(Key::Tab) })
            .then(KeyAction::Up { value: char::from(Key::Shift) });
        self.go_by(back, name).await;
    }

    async fn go_by(&self, key: KeyActions, name: &str) {
        let begin = Instant::now();
        let mut passed = Vec::new();
        while begin.elapsed() < SOON {
            self.client.perform_actions(key.clone()).await.expect("Tab can be pressed");
            let at = self.sees_where_one_stands().await;
            if at == *name {
                return;
            }
            let at = at.to_string();
            if !passed.contains(&at) {
                passed.push(at);
            }
        }
        panic!("`{name}` can't be reached by Tab, only: {}", passed.join(", "));
    }

    /// On what one stands now, which has a ring around it and is in the window once the page is drawn.
    async fn sees_where_one_stands(&self) -> Value {
        let script = format!("{NAMES}{RING}");
        let mut tick = interval(Duration::from_millis(20));
        let begin = Instant::now();
        loop {
            let told = self.ask(&script).await;
            if told[1] == true {
                return told[0].clone();
            }
            assert!(begin.elapsed() < SOON, "nobody sees that one stands on {}: {}", told[0], told[2]);
            tick.tick().await;
        }
    }

    /// Presses what has this name, by keys alone.
    pub async fn press_by_keys(&self, name: &str) {
        self.tab_to(name).await;
        self.type_keys(&Key::Enter.to_string()).await;
    }

    /// The name of what one stands on; empty: on nothing.
    pub async fn stands_on(&self) -> String {
        let told = self.ask(&format!("{NAMES} return placeOf(document.activeElement) ?? ''")).await;
        told.as_str().expect("text").to_owned()
    }
}

/// Whether something is in the part of a page with this heading.
fn under(heading: &str) -> String {
    let heading = Value::from(heading);
    format!(
        "[...document.querySelectorAll('main section')].some((section) =>
            section.contains(one) && section.querySelector('h2')?.innerText.trim() === {heading})"
    )
}
