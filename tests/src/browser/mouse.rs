//! A mouse whose button stays down as long as a test wants.

use super::Browser;
use serde_json::json;

impl Browser {
    /// Presses the button of the mouse on the middle of the element that this expression gives, and does not let it go.
    pub async fn hold_down(&self, element: &str) {
        let place = format!(
            "const one = {element};
             one.scrollIntoView({{ block: 'center' }});
             const box = one.getBoundingClientRect();
             return [box.left + box.width / 2, box.top + box.height / 2]"
        );
        let place = self.ask(&place).await;
        self.turn_mouse("mouseMoved", &place[0], &place[1], 0).await;
        self.turn_mouse("mousePressed", &place[0], &place[1], 1).await;
        self.ask(&format!("window.mouse = {place}")).await;
    }

    /// Lets it go where it is.
    pub async fn let_go(&self) {
        let place = self.ask("return window.mouse").await;
        self.turn_mouse("mouseReleased", &place[0], &place[1], 0).await;
    }

    async fn turn_mouse(&self, kind: &str, x: &serde_json::Value, y: &serde_json::Value, buttons: u32) {
        let button = if kind == "mouseMoved" { "none" } else { "left" };
        let event = json!({ "type": kind, "x": x, "y": y, "button": button, "buttons": buttons, "clickCount": 1 });
        self.tell("Input.dispatchMouseEvent", &event).await;
    }
}
