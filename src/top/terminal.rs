//! The terminal: taken at the start, given back at the end, whatever the end is; written to once a frame.
//!
//! Frames are wrapped in synchronised output (DEC private mode 2026), which ratatui does not do: without it, a frame can
//! be seen half drawn.

use std::cell::RefCell;
use std::io::{self, IsTerminal as _, Write};
use std::os::fd::AsFd as _;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, Once, PoisonError};
use std::time::Duration;

use crossterm::event::{
    Event as Input, KeyCode, KeyEvent, KeyEventKind, KeyModifiers, MouseButton, MouseEvent, MouseEventKind,
};
use ratatui::Terminal;
use ratatui::backend::CrosstermBackend;
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use tokio::sync::mpsc;

use crate::top::background::{self, Ear, Heard};
use crate::top::event::{Event, Key};
use crate::top::output::{Settling, Writer};
use crate::top::screen;
use crate::top::state::State;

/// Alternate screen, no cursor, no wrapping at the right edge.
const ENTER: &str = "\x1b[?1049h\x1b[?25l\x1b[?7l";
/// Ends everything that may have been begun.
const LEAVE: &str = "\x1b[?2026l\x1b[?1006l\x1b[?1000l\x1b[0m\x1b[?7h\x1b[?25h\x1b[?1049l";
const CLEAR: &str = "\x1b[2J";
const FRAME_BEGIN: &str = "\x1b[?2026h";
const FRAME_END: &str = "\x1b[?2026l";
/// Presses and the wheel, in the encoding that knows large screens; never every movement.
const MOUSE_ON: &str = "\x1b[?1000h\x1b[?1006h";
const MOUSE_OFF: &str = "\x1b[?1006l\x1b[?1000l";

/// How long a terminal may take to take what gives it back. One that takes nothing is left as it is.
const GIVE_BACK_MAX: Duration = Duration::from_millis(500);

static PANIC_HOOK: Once = Once::new();
/// What is still on its way to the terminal must be there before it is given back.
static ON_ITS_WAY: Mutex<Option<Settling>> = Mutex::new(None);
/// Whether the terminal is ours: giving it back twice would move the cursor onto what was printed in between.
static TAKEN: AtomicBool = AtomicBool::new(false);

/// Bytes gathered until the frame is whole.
#[derive(Debug, Clone, Default)]
struct Gathered(Rc<RefCell<Vec<u8>>>);

impl Write for Gathered {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.borrow_mut().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The terminal while the console has it. Dropping gives it back.
#[derive(Debug)]
pub struct Screen {
    terminal: Terminal<CrosstermBackend<Gathered>>,
    gathered: Gathered,
    writer: Writer,
}

impl Screen {
    /// Takes the terminal.
    ///
    /// # Errors
    /// When standard output is not a terminal or refuses raw mode; it is then as it was.
    pub fn enter() -> io::Result<Self> {
        if !io::stdout().is_terminal() {
            return Err(io::Error::other("standard output is not a terminal"));
        }
        // colours are chosen by our theme, which knows of NO_COLOR
        crossterm::style::force_color_output(true);
        PANIC_HOOK.call_once(|| {
            let before = std::panic::take_hook();
            std::panic::set_hook(Box::new(move |panic| {
                let _ = give_back();
                before(panic);
            }));
        });
        let writer = Writer::start(io::stdout().as_fd().try_clone_to_owned()?)?;
        *ON_ITS_WAY.lock().unwrap_or_else(PoisonError::into_inner) = Some(writer.settling());
        take()?;
        let gathered = Gathered::default();
        let terminal = Terminal::new(CrosstermBackend::new(gathered.clone()));
        match terminal {
            Ok(terminal) => Ok(Self { terminal, gathered, writer }),
            Err(error) => {
                let _ = give_back();
                Err(error)
            }
        }
    }

    /// Returns columns and rows.
    ///
    /// # Errors
    /// When the terminal does not tell.
    pub fn size(&self) -> io::Result<(u16, u16)> {
        let size = self.terminal.size()?;
        Ok((size.width, size.height))
    }

    /// Returns whether the terminal has taken all there was for it: the time to draw.
    pub fn is_idle(&self) -> bool {
        self.writer.is_idle()
    }

    /// Waits until the terminal has taken all there was for it.
    pub async fn idle(&self) {
        self.writer.idle().await;
    }

    /// Asks the terminal for its background. The answer comes as an event, or never.
    ///
    /// # Errors
    /// When the terminal cannot be written to any more.
    pub fn ask_for_background(&self) -> io::Result<()> {
        self.writer.put(background::QUESTION.as_bytes())
    }

    /// Draws the state in one write, which goes on in the background.
    ///
    /// # Errors
    /// When the terminal cannot be written to any more.
    pub fn draw(&mut self, state: &State) -> io::Result<()> {
        self.gathered.write_all(FRAME_BEGIN.as_bytes())?;
        self.terminal.draw(|frame| screen::draw(state, frame.buffer_mut()))?;
        self.gathered.write_all(FRAME_END.as_bytes())?;
        self.commit()
    }

    /// Forgets what is on the terminal, so that the next frame draws every cell.
    ///
    /// # Errors
    /// When the terminal cannot be written to any more.
    pub fn repaint(&mut self) -> io::Result<()> {
        // a new one, as clearing the old one asks the terminal where its cursor is, and waits for the answer
        self.terminal = Terminal::new(CrosstermBackend::new(self.gathered.clone()))?;
        self.writer.put(CLEAR.as_bytes())
    }

    /// Switches the reporting of the mouse.
    ///
    /// # Errors
    /// When the terminal cannot be written to any more.
    pub fn mouse(&mut self, on: bool) -> io::Result<()> {
        self.writer.put(if on { MOUSE_ON } else { MOUSE_OFF }.as_bytes())
    }

    /// Puts `text` on the clipboard of the terminal, where it allows that (OSC 52).
    ///
    /// # Errors
    /// When the terminal cannot be written to any more.
    pub fn copy(&mut self, text: &str) -> io::Result<()> {
        let encoded = data_encoding::BASE64.encode(text.as_bytes());
        self.writer.put(format!("\x1b]52;c;{encoded}\x1b\\").as_bytes())
    }

    /// Gives the terminal to the shell and stops, until the shell continues us.
    ///
    /// # Errors
    /// When the terminal cannot be taken again.
    pub fn suspend(&mut self) -> io::Result<()> {
        give_back()?;
        rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::TSTP)?;
        self.resume()
    }

    /// Takes the terminal again after having been stopped.
    ///
    /// # Errors
    /// When it cannot be taken.
    pub fn resume(&mut self) -> io::Result<()> {
        take()?;
        self.repaint()
    }

    fn commit(&mut self) -> io::Result<()> {
        let bytes = std::mem::take(&mut *self.gathered.0.borrow_mut());
        self.writer.put(&bytes)
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        let _ = give_back();
    }
}

fn take() -> io::Result<()> {
    crossterm::terminal::enable_raw_mode()?;
    TAKEN.store(true, Ordering::SeqCst);
    write_now(ENTER)
}

fn give_back() -> io::Result<()> {
    if !TAKEN.swap(false, Ordering::SeqCst) {
        return Ok(());
    }
    let on_its_way = ON_ITS_WAY.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let settled = on_its_way.is_none_or(|on_its_way| on_its_way.settle(GIVE_BACK_MAX));
    let written = if settled && takes_more() { write_now(LEAVE) } else { Ok(()) };
    crossterm::terminal::disable_raw_mode()?;
    written
}

/// Returns whether the terminal takes more bytes, waiting a little for it to.
fn takes_more() -> bool {
    let out = io::stdout();
    let most = Timespec::try_from(GIVE_BACK_MAX).ok();
    let ready = poll(&mut [PollFd::new(&out, PollFlags::OUT)], most.as_ref());
    // What cannot be told is tried.
    ready.map_or(true, |count| count > 0)
}

fn write_now(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()
}

/// Draws the state into a buffer of `columns` by `rows`, for files and tests.
pub fn offscreen(state: &State, columns: u16, rows: u16) -> Buffer {
    let mut buffer = Buffer::empty(Rect::new(0, 0, columns, rows));
    screen::draw(state, &mut buffer);
    buffer
}

/// Reads keys on a thread of its own until nobody receives them or the terminal is gone.
///
/// # Errors
/// When the thread cannot be started.
pub fn read_input(events: mpsc::Sender<Event>) -> io::Result<()> {
    std::thread::Builder::new().name("top-input".to_owned()).spawn(move || {
        let mut ear = Ear::default();
        while let Ok(input) = crossterm::event::read() {
            for event in events_of(&input, &mut ear) {
                if events.blocking_send(event).is_err() {
                    return;
                }
            }
        }
    })?;
    Ok(())
}

fn events_of(input: &Input, ear: &mut Ear) -> Vec<Event> {
    match *input {
        Input::Key(key) if key.kind == KeyEventKind::Release => Vec::new(),
        Input::Key(key) => match ear.hear(key) {
            Heard::Keys(keys) => keys.into_iter().filter_map(key_of).map(Event::Key).collect(),
            Heard::Part => Vec::new(),
            Heard::Light(light) => vec![Event::Background { light }],
        },
        Input::Resize(columns, rows) => vec![Event::Resize(columns, rows)],
        Input::Mouse(mouse) => mouse_of(mouse).into_iter().collect(),
        Input::FocusGained | Input::FocusLost | Input::Paste(_) => Vec::new(),
    }
}

#[expect(clippy::wildcard_enum_match_arm, reason = "keyboards have keys that mean nothing to us")]
fn key_of(event: KeyEvent) -> Option<Key> {
    let ctrl = event.modifiers.contains(KeyModifiers::CONTROL);
    Some(match event.code {
        KeyCode::Char(c) if ctrl => Key::Ctrl(c.to_ascii_lowercase()),
        KeyCode::Char(c) => Key::Char(c),
        KeyCode::Enter => Key::Enter,
        KeyCode::Esc => Key::Esc,
        KeyCode::Tab => Key::Tab,
        KeyCode::BackTab => Key::BackTab,
        KeyCode::Backspace => Key::Backspace,
        KeyCode::Up => Key::Up,
        KeyCode::Down => Key::Down,
        KeyCode::Left => Key::Left,
        KeyCode::Right => Key::Right,
        KeyCode::Home => Key::Home,
        KeyCode::End => Key::End,
        KeyCode::PageUp => Key::PageUp,
        KeyCode::PageDown => Key::PageDown,
        _ => return None,
    })
}

#[expect(clippy::wildcard_enum_match_arm, reason = "of the mouse, only presses and the wheel are used")]
fn mouse_of(event: MouseEvent) -> Option<Event> {
    match event.kind {
        MouseEventKind::ScrollDown => Some(Event::Wheel(1)),
        MouseEventKind::ScrollUp => Some(Event::Wheel(-1)),
        MouseEventKind::Down(MouseButton::Left) => Some(Event::Click(event.column, event.row)),
        _ => None,
    }
}
