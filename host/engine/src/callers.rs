//! Who asks, by name: numbers for the limiter, names for what survives.

use crate::sync::Mutex;
use std::collections::HashMap;
use std::sync::Arc;
use weir_limiter::{Caller, MAX_CALLERS};

/// Names and their numbers, in both directions.
#[derive(Debug, Default)]
pub(crate) struct Callers {
    table: Mutex<Table>,
}

#[derive(Debug, Default)]
struct Table {
    by_name: HashMap<Arc<str>, Caller>,
    /// From number 1.
    names: Vec<Arc<str>>,
}

impl Callers {
    /// The caller of this name; past [`MAX_CALLERS`] names, nobody in particular.
    pub(crate) fn caller(&self, name: &str) -> Caller {
        let mut table = self.table.lock();
        if let Some(caller) = table.by_name.get(name) {
            return *caller;
        }
        let number = u32::try_from(table.names.len()).unwrap_or(MAX_CALLERS).saturating_add(1);
        let caller = Caller::numbered(number);
        if number <= MAX_CALLERS {
            let name: Arc<str> = name.into();
            table.by_name.insert(Arc::clone(&name), caller);
            table.names.push(name);
        }
        caller
    }

    /// The name of a caller; none of nobody in particular.
    pub(crate) fn name(&self, caller: Caller) -> Option<Arc<str>> {
        let index = usize::try_from(caller.number()).ok()?.checked_sub(1)?;
        self.table.lock().names.get(index).cloned()
    }
}
