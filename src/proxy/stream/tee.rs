//! A copy of a body, made while it passes to where it goes. The copy never holds the body back: who reads it too slowly
//! loses it.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use crate::logic::http::h1::chunk::Piece;
use crate::proxy::failure::{Failed, Failure};

/// Bytes that a copy may lag behind at most.
const BEHIND_BYTES_MAX: usize = 256 << 10;
/// Pieces that it may: each costs more than its bytes.
const BEHIND_PIECES_MAX: usize = 1_024;

#[derive(Default)]
struct State {
    pieces: VecDeque<Piece>,
    bytes: usize,
    ended: bool,
    /// The body broke off, or its reader was too slow.
    lost: bool,
    /// Nobody reads it any more.
    unread: bool,
    waker: Option<Waker>,
}

/// Where pieces are copied as they pass. Dropped before the end, it breaks the copy off.
pub(crate) struct Tee(Rc<RefCell<State>>);

/// The copy.
pub(crate) struct Copied(Rc<RefCell<State>>);

/// Makes a copy of a body of which nothing has passed yet.
pub(crate) fn tee() -> (Tee, Copied) {
    let state = Rc::<RefCell<State>>::default();
    (Tee(state.clone()), Copied(state))
}

impl Tee {
    /// Copies a piece.
    pub(crate) fn push(&self, piece: &Piece) {
        let mut state = self.0.borrow_mut();
        if state.lost || state.unread {
            return;
        }
        let (copy, bytes) = match piece {
            Piece::Data(data) => (Piece::Data(data.clone()), data.len()),
            Piece::Trailers(trailers) => (Piece::Trailers(trailers.clone()), trailers.bytes()),
        };
        state.bytes += bytes;
        if state.bytes > BEHIND_BYTES_MAX || state.pieces.len() >= BEHIND_PIECES_MAX {
            state.lose();
        } else {
            state.pieces.push_back(copy);
        }
        state.wake();
    }

    /// Says that the body is complete.
    pub(crate) fn end(&self) {
        let mut state = self.0.borrow_mut();
        state.ended = true;
        state.wake();
    }
}

impl Drop for Tee {
    fn drop(&mut self) {
        let mut state = self.0.borrow_mut();
        if !state.ended {
            state.lose();
            state.wake();
        }
    }
}

impl Copied {
    /// Returns the next piece; `None` when the body is complete.
    pub(crate) fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Piece, Failed>>> {
        let mut state = self.0.borrow_mut();
        if let Some(piece) = state.pieces.pop_front() {
            if let Piece::Data(data) = &piece {
                state.bytes -= data.len();
            }
            return Poll::Ready(Some(Ok(piece)));
        }
        if state.lost {
            return Poll::Ready(Some(Err(Failed::new(Failure::CallerGone, "the copy was given up"))));
        }
        if state.ended {
            return Poll::Ready(None);
        }
        state.waker = Some(cx.waker().clone());
        Poll::Pending
    }

    /// Returns whether it is known that nothing more comes.
    pub(crate) fn is_over(&self) -> bool {
        let state = self.0.borrow();
        state.ended && !state.lost && state.pieces.is_empty()
    }
}

impl Drop for Copied {
    fn drop(&mut self) {
        let mut state = self.0.borrow_mut();
        state.unread = true;
        state.pieces.clear();
    }
}

impl State {
    fn lose(&mut self) {
        self.lost = true;
        self.pieces.clear();
    }

    fn wake(&mut self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }
}
