//! The terminal's background: asked for by OSC 11, and its answer recognised among the keys, whenever it comes.
//!
//! Terminals answer `ESC ] 11 ; rgb:RRRR/GGGG/BBBB` and then `ESC \` or BEL, as `XParseColor` writes colours; xterm began
//! it. Those that know nothing of it stay silent, so nobody waits for it.

use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

/// The question.
pub const QUESTION: &str = "\x1b]11;?\x1b\\";
/// Every answer begins so.
const ANSWER: &str = "]11;rgb";
/// No answer is longer.
const ANSWER_CHARS_MAX: usize = 40;

/// What a key turned out to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Heard {
    /// Keys that somebody pressed, in order.
    Keys(Vec<KeyEvent>),
    /// Perhaps a part of the answer.
    Part,
    /// The last part of it: whether the background is light.
    Light(bool),
}

/// Tells the answer from keys.
#[derive(Debug, Default)]
pub struct Ear {
    /// What may be the answer so far.
    keys: Vec<KeyEvent>,
    text: String,
}

impl Ear {
    /// Takes the next key.
    pub fn hear(&mut self, key: KeyEvent) -> Heard {
        let alt = key.modifiers.contains(KeyModifiers::ALT);
        let ctrl = key.modifiers.contains(KeyModifiers::CONTROL);
        let KeyCode::Char(c) = key.code else { return self.no(key) };
        if self.keys.is_empty() && !(alt && c == ']') {
            return Heard::Keys(vec![key]);
        }
        if (alt && c == '\\') || (ctrl && c == 'g') {
            self.keys.clear();
            let text = std::mem::take(&mut self.text);
            return is_light(&text).map_or(Heard::Part, Heard::Light);
        }
        let begins = |text: &str| ANSWER.starts_with(text) || text.starts_with(ANSWER);
        self.text.push(c);
        if self.text.len() > ANSWER_CHARS_MAX || !begins(&self.text) || ctrl {
            return self.no(key);
        }
        self.keys.push(key);
        Heard::Part
    }

    /// It was no answer: all of it were keys.
    fn no(&mut self, key: KeyEvent) -> Heard {
        self.text.clear();
        let mut keys = std::mem::take(&mut self.keys);
        keys.push(key);
        Heard::Keys(keys)
    }
}

/// Reads `]11;rgb:R/G/B` (or `rgba:`), one to four hexadecimal digits each.
fn is_light(text: &str) -> Option<bool> {
    let colour = text.strip_prefix(ANSWER)?.trim_start_matches('a').strip_prefix(':')?;
    let share = |digits: &str| {
        let most = 16_u32.checked_pow(u32::try_from(digits.len()).ok()?)?.checked_sub(1)?;
        let value = u32::from_str_radix(digits, 16).ok()?;
        (digits.len() <= 4 && most > 0).then(|| f64::from(value) / f64::from(most))
    };
    let mut parts = colour.split('/').map(share);
    let (red, green, blue) = (parts.next()??, parts.next()??, parts.next()??);
    // Weights of ITU-R BT.709: how bright each looks.
    Some(0.2126 * red + 0.7152 * green + 0.0722 * blue > 0.5)
}

#[cfg(test)]
mod tests {
    use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

    use crate::top::background::{Ear, Heard};

    fn key(c: char, modifiers: KeyModifiers) -> KeyEvent {
        KeyEvent::new(KeyCode::Char(c), modifiers)
    }

    /// The keys that a terminal's bytes are read as: what follows ESC has alt.
    fn keys(bytes: &str) -> Vec<KeyEvent> {
        let mut keys = Vec::new();
        let mut escaped = false;
        for c in bytes.chars() {
            match c {
                '\x1b' => escaped = true,
                '\x07' => keys.push(key('g', KeyModifiers::CONTROL)),
                c => {
                    let alt =
                        if std::mem::take(&mut escaped) { KeyModifiers::ALT } else { KeyModifiers::NONE };
                    keys.push(key(c, alt));
                }
            }
        }
        keys
    }

    fn hear(bytes: &str) -> (Vec<KeyEvent>, Option<bool>) {
        let (mut ear, mut pressed, mut light) = (Ear::default(), Vec::new(), None);
        for key in keys(bytes) {
            match ear.hear(key) {
                Heard::Keys(keys) => pressed.extend(keys),
                Heard::Part => {}
                Heard::Light(is) => light = Some(is),
            }
        }
        (pressed, light)
    }

    #[test]
    fn an_answer_is_no_keys_however_it_is_written() {
        for (bytes, light) in [
            ("\x1b]11;rgb:ffff/ffff/ffff\x1b\\", true),
            ("\x1b]11;rgb:0000/0000/0000\x07", false),
            ("\x1b]11;rgb:ff/ff/f0\x1b\\", true),
            ("\x1b]11;rgb:1/2/3\x07", false),
            ("\x1b]11;rgba:ffff/ffff/ffff/ffff\x1b\\", true),
            ("\x1b]11;rgb:0000/0000/ffff\x1b\\", false),
        ] {
            assert_eq!(hear(bytes), (Vec::new(), Some(light)), "{bytes:?}");
        }
    }

    #[test]
    fn keys_around_it_stay_keys() {
        assert_eq!(hear("j\x1b]11;rgb:0/0/0\x07k"), (keys("jk"), Some(false)));
    }

    #[test]
    fn what_only_begins_like_an_answer_is_keys() {
        for bytes in ["\x1b]1q", "]11;rgb:", "\x1b]11;?x", "1\x1b]\x1b]2"] {
            let (pressed, light) = hear(bytes);
            assert!(light.is_none());
            assert_eq!(pressed, keys(bytes), "{bytes:?}");
        }
    }

    #[test]
    fn a_damaged_answer_says_nothing_and_presses_nothing() {
        for bytes in ["\x1b]11;rgb:zz/0/0\x07", "\x1b]11;rgb:1/2\x07", "\x1b]11;rgb:00000/0/0\x07"] {
            assert_eq!(hear(bytes), (Vec::new(), None), "{bytes:?}");
        }
    }
}
