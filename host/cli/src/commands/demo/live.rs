//! The live table: in a terminal it is drawn in place, elsewhere it is text, again and again.

use std::io::{self, IsTerminal};
use std::time::Duration;

use ratatui::crossterm::event::{self, Event, KeyCode, KeyModifiers};
use ratatui::layout::Constraint;
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::Span;
use ratatui::widgets::{Block, Cell, Row, Table};
use ratatui::{DefaultTerminal, Frame, TerminalOptions, Viewport};

use super::table::{COLUMNS, Rows, bar, columns, fullness};
use crate::error::Failure;
use crate::output;

/// Lines of the table: its frame, its head, the counters of the scene and a few more.
const HEIGHT: u16 = 18;
/// How often it is drawn in a terminal.
const DRAW: Duration = Duration::from_millis(200);
/// How often it is printed elsewhere.
const PRINT: Duration = Duration::from_secs(1);
/// From here on a bar warns.
const NEARLY_FULL: f64 = 0.75;

/// Where the table goes. Dropping it gives the terminal back as it was.
pub(crate) enum Screen {
    /// Drawn in place.
    Terminal(Box<DefaultTerminal>),
    /// Printed as text.
    Text,
    /// Nowhere.
    None,
}

impl Screen {
    /// Takes the terminal, where there is one.
    pub(crate) fn open(quiet: bool) -> Self {
        if quiet {
            return Self::None;
        }
        if !io::stdout().is_terminal() || !io::stdin().is_terminal() {
            return Self::Text;
        }
        // The lines above it stay, so that the URLs can be read and copied.
        match ratatui::try_init_with_options(TerminalOptions { viewport: Viewport::Inline(HEIGHT) }) {
            Ok(terminal) => Self::Terminal(Box::new(terminal)),
            Err(error) => {
                // Half of it may be done, such as raw mode.
                ratatui::restore();
                tracing::debug!(%error, "no live table in this terminal");
                Self::Text
            }
        }
    }

    /// How often to draw.
    pub(crate) fn interval(&self) -> Duration {
        match self {
            Self::Terminal(_) => DRAW,
            Self::Text | Self::None => PRINT,
        }
    }

    /// Draws the rows.
    pub(crate) fn draw(&mut self, rows: &Rows) -> Result<(), Failure> {
        match self {
            Self::Terminal(terminal) => {
                terminal.draw(|frame| draw(frame, rows))?;
                Ok(())
            }
            Self::Text => output::data(&format!("{}\n", rows.text())),
            Self::None => Ok(()),
        }
    }

    /// Whether somebody has pressed q, Esc or Ctrl-C, which is a key like any other while the terminal is ours.
    pub(crate) fn asked_to_quit(&self) -> bool {
        if !matches!(self, Self::Terminal(_)) {
            return false;
        }
        while event::poll(Duration::ZERO).unwrap_or(false) {
            let Ok(Event::Key(key)) = event::read() else { continue };
            let interrupt = key.code == KeyCode::Char('c') && key.modifiers.contains(KeyModifiers::CONTROL);
            if interrupt || matches!(key.code, KeyCode::Char('q') | KeyCode::Esc) {
                return true;
            }
        }
        false
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        if let Self::Terminal(terminal) = self {
            // What follows is printed below the table, or over it where that fails.
            let _cleared = terminal.clear();
            ratatui::restore();
        }
    }
}

fn draw(frame: &mut Frame<'_>, rows: &Rows) {
    let header = Row::new(COLUMNS.iter().map(|column| Cell::from(*column)).chain([Cell::from("FULL")]))
        .style(Style::new().add_modifier(Modifier::BOLD));
    let body = rows.counters().map(|counter| {
        let fullness = fullness(counter);
        let color = match (counter.waiting, fullness) {
            (1.., _) => Color::Yellow,
            (0, NEARLY_FULL..) => Color::Cyan,
            _ => Color::Green,
        };
        let cells = columns(counter).into_iter().map(Cell::from);
        Row::new(cells.chain([Cell::from(Span::styled(bar(fullness), Style::new().fg(color)))]))
    });
    let widths = [16, 7, 8, 8, 9, 8, 9, 9, 16].map(Constraint::Length);
    let table = Table::new(body, widths)
        .header(header)
        .block(Block::bordered().title(" weir demo: yellow has waiters; q ends it "));
    frame.render_widget(table, frame.area());
}
