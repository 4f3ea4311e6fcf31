//! Lines that meet: segments are laid over each other and come out as the box-drawing character of their union.

use std::collections::BTreeMap;

use crate::top::canvas::Canvas;
use crate::top::theme::Role;

/// How a line is drawn, later ones over earlier ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Weight {
    /// `─`
    Light,
    /// `━`: worth following.
    Heavy,
}

#[derive(Debug, Clone, Copy)]
struct Joint {
    /// Upwards, right, downwards, left: 0 none, 1 light, 2 heavy.
    arms: [u8; 4],
    weight: Weight,
    role: Role,
}

/// A sheet of lines.
#[derive(Debug, Default)]
pub struct Lines {
    joints: BTreeMap<(u16, u16), Joint>,
}

impl Lines {
    /// Lays a line along row `y` from column `from` to `to`, both included; its ends point inwards.
    pub fn horizontal(&mut self, y: u16, from: u16, to: u16, weight: Weight, role: Role) {
        for x in from..=to {
            self.arm((x, y), [false, x < to, false, x > from], weight, role);
        }
    }

    /// Lays a line along column `x` from row `from` to `to`, both included, in either order.
    pub fn vertical(&mut self, x: u16, from: u16, to: u16, weight: Weight, role: Role) {
        let (top, bottom) = (from.min(to), from.max(to));
        for y in top..=bottom {
            self.arm((x, y), [y > top, false, y < bottom, false], weight, role);
        }
    }

    fn arm(&mut self, at: (u16, u16), arms: [bool; 4], weight: Weight, role: Role) {
        let strength = if weight == Weight::Heavy { 2 } else { 1 };
        let joint = self.joints.entry(at).or_insert(Joint { arms: [0; 4], weight, role });
        for (slot, present) in joint.arms.iter_mut().zip(arms) {
            if present {
                *slot = strength.max(*slot);
            }
        }
        if weight >= joint.weight {
            joint.weight = weight;
            joint.role = role;
        }
    }

    /// Draws the sheet.
    pub fn draw(&self, canvas: &mut Canvas<'_>) {
        for ((x, y), joint) in &self.joints {
            if joint.arms != [0; 4] {
                canvas.cell(*x, *y, glyph(joint.arms), joint.role);
            }
        }
    }
}

/// Returns the character of arms upwards, right, downwards and left: 0 none, 1 light, 2 heavy.
#[rustfmt::skip]
fn glyph(arms: [u8; 4]) -> char {
    match arms {
        [0, 0, 0, 0] => ' ',
        [0, 0, 0, 1] => '╴', [1, 0, 0, 0] => '╵', [0, 1, 0, 0] => '╶', [0, 0, 1, 0] => '╷',
        [0, 0, 0, 2] => '╸', [2, 0, 0, 0] => '╹', [0, 2, 0, 0] => '╺', [0, 0, 2, 0] => '╻',
        [0, 1, 0, 1] => '─', [0, 2, 0, 2] => '━', [0, 2, 0, 1] => '╼', [0, 1, 0, 2] => '╾',
        [1, 0, 1, 0] => '│', [2, 0, 2, 0] => '┃', [1, 0, 2, 0] => '╽', [2, 0, 1, 0] => '╿',
        [0, 1, 1, 0] => '┌', [0, 2, 1, 0] => '┍', [0, 1, 2, 0] => '┎', [0, 2, 2, 0] => '┏',
        [0, 0, 1, 1] => '┐', [0, 0, 1, 2] => '┑', [0, 0, 2, 1] => '┒', [0, 0, 2, 2] => '┓',
        [1, 1, 0, 0] => '└', [1, 2, 0, 0] => '┕', [2, 1, 0, 0] => '┖', [2, 2, 0, 0] => '┗',
        [1, 0, 0, 1] => '┘', [1, 0, 0, 2] => '┙', [2, 0, 0, 1] => '┚', [2, 0, 0, 2] => '┛',
        [1, 1, 1, 0] => '├', [1, 2, 1, 0] => '┝', [2, 1, 1, 0] => '┞', [1, 1, 2, 0] => '┟',
        [2, 1, 2, 0] => '┠', [2, 2, 1, 0] => '┡', [1, 2, 2, 0] => '┢', [2, 2, 2, 0] => '┣',
        [1, 0, 1, 1] => '┤', [1, 0, 1, 2] => '┥', [2, 0, 1, 1] => '┦', [1, 0, 2, 1] => '┧',
        [2, 0, 2, 1] => '┨', [2, 0, 1, 2] => '┩', [1, 0, 2, 2] => '┪', [2, 0, 2, 2] => '┫',
        [0, 1, 1, 1] => '┬', [0, 1, 1, 2] => '┭', [0, 2, 1, 1] => '┮', [0, 2, 1, 2] => '┯',
        [0, 1, 2, 1] => '┰', [0, 1, 2, 2] => '┱', [0, 2, 2, 1] => '┲', [0, 2, 2, 2] => '┳',
        [1, 1, 0, 1] => '┴', [1, 1, 0, 2] => '┵', [1, 2, 0, 1] => '┶', [1, 2, 0, 2] => '┷',
        [2, 1, 0, 1] => '┸', [2, 1, 0, 2] => '┹', [2, 2, 0, 1] => '┺', [2, 2, 0, 2] => '┻',
        [1, 1, 1, 1] => '┼', [1, 1, 1, 2] => '┽', [1, 2, 1, 1] => '┾', [1, 2, 1, 2] => '┿',
        [2, 1, 1, 1] => '╀', [1, 1, 2, 1] => '╁', [2, 1, 2, 1] => '╂', [2, 1, 1, 2] => '╃',
        [2, 2, 1, 1] => '╄', [1, 1, 2, 2] => '╅', [1, 2, 2, 1] => '╆', [2, 2, 1, 2] => '╇',
        [1, 2, 2, 2] => '╈', [2, 1, 2, 2] => '╉', [2, 2, 2, 1] => '╊',
        _ => '╋',
    }
}
