//! What one worker counts for each service by itself, so that no cache line moves between cores: its retry budget, and whose
//! turn it is.

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::{Arc, Weak};

use crate::logic::resilience::budget::{BudgetRules, RetryBudget};
use crate::proxy::upstream::load::Load;

/// One worker's counts.
#[derive(Debug, Default)]
pub(crate) struct Budgets {
    /// By the address of what stands for the service, which nothing else can have while it is here.
    by_load: RefCell<HashMap<usize, Own, foldhash::fast::RandomState>>,
}

#[derive(Debug)]
struct Own {
    /// Keeps the address taken, not the counts.
    load: Weak<Load>,
    budget: RetryBudget,
    ticket: u64,
}

impl Budgets {
    /// Looks at the counts of one service.
    fn look<T>(&self, load: &Arc<Load>, look: impl FnOnce(&mut Own) -> T) -> T {
        let mut by_load = self.by_load.borrow_mut();
        look(by_load.entry(Arc::as_ptr(load).addr()).or_insert_with(|| Own {
            load: Arc::downgrade(load),
            budget: RetryBudget::new(),
            // Workers would all begin with the same endpoint otherwise.
            ticket: rand::random(),
        }))
    }

    /// Counts a request.
    pub(crate) fn deposit(&self, load: &Arc<Load>, rules: &BudgetRules, now_ns: u64) {
        self.look(load, |own| own.budget.deposit(rules, now_ns));
    }

    /// Lets `decide` take a retry out of the budget.
    pub(crate) fn spend<T>(&self, load: &Arc<Load>, decide: impl FnOnce(&mut RetryBudget) -> T) -> T {
        self.look(load, |own| decide(&mut own.budget))
    }

    /// Returns the next ticket for a turn.
    pub(crate) fn ticket(&self, load: &Arc<Load>) -> u64 {
        self.look(load, |own| {
            own.ticket = own.ticket.wrapping_add(1);
            own.ticket
        })
    }

    /// Forgets services that are gone.
    pub(crate) fn sweep(&self) {
        self.by_load.borrow_mut().retain(|_, own| own.load.strong_count() > 0);
    }
}
