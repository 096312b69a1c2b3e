//! The writing itself: threads encode, the caller's thread writes what is due, and another sends what was written to the
//! disk meanwhile, so that the sync at the end has little left to do.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use hob_gguf::{TensorWriter, WriteError};

use super::pieces::{Line, Next, Rows};
use super::plan::Plan;
use super::target::{Target, io_error};
use super::{Progress, QuantizeError, Watch, Writing};

/// Bytes after which what was written is sent to the disk.
const SYNC_EVERY: u64 = 64 << 20;
/// Small tensors and padding are gathered; pieces pass by.
const BUFFER: usize = 1 << 16;

impl Plan<'_> {
    /// Writes the files; returns them.
    ///
    /// # Errors
    /// When the place is taken or too small, when a weight or an importance is no number, when the system refuses, or when
    /// `watch` breaks off. No file is left then, and none that was there is changed.
    pub fn write(
        &self,
        writing: &Writing,
        watch: &mut Watch<'_>,
    ) -> Result<Vec<PathBuf>, QuantizeError> {
        self.check_importance()?;
        let finals = self.split.paths(&writing.path, self.parts.len());
        let mut sources = self.source.paths().to_vec();
        sources.extend(self.importance.map(|i| PathBuf::from(i.file)));
        let target = Target::claim(writing, finals, &sources, self.total_bytes())?;
        let (jobs, queue) = sync_channel(1);
        std::thread::scope(|scope| {
            let syncing = scope.spawn(|| sync_each(queue));
            let open = |no| {
                let file = Arc::new(target.open(no)?);
                Ok(Disk { file, unsynced: 0, jobs: jobs.clone() })
            };
            let written = self.stream(writing.threads, open, Disk::close, watch);
            drop(jobs);
            let synced = syncing.join().unwrap_or(Ok(()));
            written.and(synced.map_err(Fault::Sink))
        })
        .map_err(|fault| self.explain(fault, &writing.path))?;
        target.publish()
    }

    /// Refuses an importance that is no mean square.
    fn check_importance(&self) -> Result<(), QuantizeError> {
        let Some(importance) = self.importance else { return Ok(()) };
        for tensor in self.tensors.iter().filter(|t| t.importance) {
            let values = importance.matrix.importance(&tensor.name).unwrap_or_default();
            let bad = values.iter().position(|x| !x.is_finite() || *x < 0.0);
            if let Some((column, &value)) = bad.and_then(|i| Some((i, values.get(i)?))) {
                let tensor = tensor.name.clone();
                return Err(QuantizeError::ImportanceValue { tensor, column, value });
            }
        }
        Ok(())
    }

    /// Streams all parts into sinks.
    pub(super) fn stream<W: Write>(
        &self,
        threads: usize,
        open: impl FnMut(usize) -> Result<W, QuantizeError>,
        close: impl FnMut(W) -> io::Result<()>,
        watch: &mut Watch<'_>,
    ) -> Result<(), Fault> {
        let line = Line::new(self, threads);
        std::thread::scope(|scope| {
            for _ in 0..threads.max(1) {
                scope.spawn(|| line.work());
            }
            let mut stream = Stream { plan: self, line: &line, watch, weights: 0, bytes: 0 };
            let done = stream.run(open, close);
            line.stop();
            done
        })
    }

    pub(super) fn explain(&self, fault: Fault, path: &Path) -> QuantizeError {
        let source = match fault {
            Fault::Known(error) => return error,
            Fault::Sink(source) => source,
        };
        let full = [io::ErrorKind::StorageFull, io::ErrorKind::QuotaExceeded];
        if full.contains(&source.kind()) {
            let (path, needed) = (path.to_owned(), self.total_bytes());
            return QuantizeError::NoSpace { path, needed, free: None };
        }
        io_error("write", path)(source)
    }
}

/// Why the stream ended: with an error that says all, or by the sink's refusal, which wants the target's name.
#[derive(Debug)]
pub(super) enum Fault {
    Known(QuantizeError),
    Sink(io::Error),
}

impl From<QuantizeError> for Fault {
    fn from(error: QuantizeError) -> Self {
        Fault::Known(error)
    }
}

impl From<WriteError> for Fault {
    fn from(error: WriteError) -> Self {
        match error {
            WriteError::Io(source) => Fault::Sink(source),
            other => Fault::Known(other.into()),
        }
    }
}

/// The writer's side of the line.
struct Stream<'s, 'w, 'a> {
    plan: &'s Plan<'a>,
    line: &'s Line<'a>,
    watch: &'s mut Watch<'w>,
    weights: u64,
    bytes: u64,
}

impl Stream<'_, '_, '_> {
    fn run<W: Write>(
        &mut self,
        mut open: impl FnMut(usize) -> Result<W, QuantizeError>,
        mut close: impl FnMut(W) -> io::Result<()>,
    ) -> Result<(), Fault> {
        for (no, part) in self.plan.parts.iter().enumerate() {
            let sink = BufWriter::with_capacity(BUFFER, open(no)?);
            let mut writer = part.writer.clone().write_header(sink)?;
            for tensor in part.tensors.clone() {
                self.tensor(tensor, &mut writer)?;
            }
            let sink = writer.finish()?.into_inner().map_err(|e| Fault::Sink(e.into_error()))?;
            close(sink).map_err(Fault::Sink)?;
        }
        Ok(())
    }

    fn tensor<W: Write>(
        &mut self,
        index: usize,
        writer: &mut TensorWriter<W>,
    ) -> Result<(), Fault> {
        let Some(tensor) = self.plan.tensors.get(index) else { return Ok(()) };
        writer.begin(&tensor.name)?;
        let mut left = tensor.bytes();
        while left > 0 {
            let (rows, bytes) = self.piece(index)?;
            writer.chunk(&bytes)?;
            let row = tensor.dims.first().copied().unwrap_or(1);
            self.weights += (rows.rows.end - rows.rows.start) * row;
            self.bytes += bytes.len() as u64;
            left = left.saturating_sub(bytes.len() as u64);
            self.line.recycle(bytes);
            self.tell(index)?;
        }
        if let Some(info) = self.plan.source.tensors().get(tensor.index) {
            self.plan.source.release(info, 0..info.bytes());
        }
        Ok(())
    }

    /// The next piece, which is of this tensor.
    fn piece(&mut self, tensor: usize) -> Result<(Rows, Vec<u8>), Fault> {
        loop {
            match self.line.next()? {
                Next::Piece(rows, bytes) if rows.tensor == tensor => return Ok((rows, bytes)),
                Next::Waiting => self.tell(tensor)?,
                Next::Piece(..) | Next::End => return Err(QuantizeError::Worker.into()),
            }
        }
    }

    fn tell(&mut self, index: usize) -> Result<(), QuantizeError> {
        let tensor = self.plan.tensors.get(index).map_or("", |t| &t.name);
        let (weights, bytes) = (self.weights, self.bytes);
        match (self.watch)(Progress { tensor, tensors: index, weights, bytes }) {
            ControlFlow::Continue(()) => Ok(()),
            ControlFlow::Break(()) => Err(QuantizeError::Stopped),
        }
    }
}

/// A file that is sent to the disk while it grows.
struct Disk {
    file: Arc<File>,
    unsynced: u64,
    jobs: SyncSender<Arc<File>>,
}

impl Disk {
    fn close(self) -> io::Result<()> {
        self.file.sync_all()
    }
}

impl Write for Disk {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = (&*self.file).write(bytes)?;
        self.unsynced += written as u64;
        // While the last sync goes on, the next one waits.
        if self.unsynced >= SYNC_EVERY && self.jobs.try_send(self.file.clone()).is_ok() {
            self.unsynced = 0;
        }
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Syncs files as they come. An error is told by the system only once, so it is kept.
fn sync_each(queue: Receiver<Arc<File>>) -> io::Result<()> {
    queue.iter().try_for_each(|file| file.sync_data())
}
