//! What a traced process wrote and whom it called, read from strace's output: one file per thread (`-ff`), so that no call is split over
//! two lines, and with the paths behind descriptors (`-y`). Reading is not judged.

use std::fs;
use std::net::SocketAddr;
use std::path::{Component, Path, PathBuf};

/// What strace is asked to record.
pub const CALLS: &str = "trace=%file,connect,write,pwrite64,writev,pwritev,pwritev2,ftruncate,\
    fallocate,copy_file_range,sendfile,fchmod,fchown";

/// Calls that open a file.
const OPEN: &[&str] = &["open", "openat", "openat2", "creat"];
/// Flags of an opening that may change something.
const WRITING: &[&str] = &["O_WRONLY", "O_RDWR", "O_CREAT", "O_TRUNC", "O_APPEND", "O_TMPFILE"];
/// Calls that change what the paths among their arguments name.
const CHANGE: &[&str] = &[
    "mkdir",
    "mkdirat",
    "rmdir",
    "unlink",
    "unlinkat",
    "rename",
    "renameat",
    "renameat2",
    "link",
    "linkat",
    "symlink",
    "symlinkat",
    "mknod",
    "mknodat",
    "truncate",
    "chmod",
    "fchmodat",
    "chown",
    "lchown",
    "fchownat",
    "utime",
    "utimes",
    "utimensat",
    "futimesat",
    "setxattr",
    "lsetxattr",
];
/// Calls that change what their first descriptor is open on.
const WRITE: &[&str] = &[
    "write",
    "pwrite64",
    "writev",
    "pwritev",
    "pwritev2",
    "ftruncate",
    "fallocate",
    "sendfile",
    "fchmod",
    "fchown",
    "utimensat",
];

/// What a process did.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Trace {
    /// Every path that it wrote to, created, renamed, removed or tried to, absolute.
    pub written: Vec<PathBuf>,
    /// Every address it connected to or tried to; of other families than IPv4, as strace shows it.
    pub called: Vec<Result<SocketAddr, String>>,
    /// Calls read.
    pub calls: usize,
}

impl Trace {
    /// Reads what `strace -ff -y -o FOLDER/t` left.
    pub fn read(folder: &Path) -> Trace {
        let mut trace = Trace::default();
        for entry in fs::read_dir(folder).unwrap() {
            let text = fs::read(entry.unwrap().path()).unwrap();
            String::from_utf8_lossy(&text).lines().for_each(|line| trace.line(line));
        }
        trace.written.sort();
        trace.written.dedup();
        trace
    }

    /// The paths written that are neither this folder nor in it.
    pub fn outside(&self, folder: &Path) -> Vec<&Path> {
        let all = self.written.iter().map(PathBuf::as_path);
        all.filter(|path| !plain(path).starts_with(folder)).collect()
    }

    fn line(&mut self, line: &str) {
        let Some((call, rest)) = line.split_once('(') else { return };
        if !call.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') {
            return;
        }
        self.calls += 1;
        let words = Words::of(rest);
        let opens = OPEN.contains(&call)
            && (call == "creat" || WRITING.iter().any(|flag| words.plain.contains(flag)));
        if opens || CHANGE.contains(&call) {
            // What a symbolic link says is a text.
            let skipped = usize::from(call.starts_with("symlink"));
            self.written.extend(words.paths().skip(skipped));
        }
        if opens {
            // Where it led, through links.
            self.written.extend(words.last_descriptor());
        }
        if WRITE.contains(&call) {
            self.written.extend(words.first_descriptor());
        }
        if call == "copy_file_range" {
            self.written.extend(words.descriptors.get(1).and_then(|d| file(d)));
        }
        if call == "connect" {
            self.called.push(words.address());
        }
    }
}

/// A path without `.` and `..`, by its text alone.
fn plain(path: &Path) -> PathBuf {
    let mut clean = PathBuf::new();
    for part in path.components() {
        match part {
            Component::ParentDir => {
                clean.pop();
            }
            Component::CurDir => {}
            part => clean.push(part),
        }
    }
    clean
}

/// A descriptor's file; none for sockets, pipes and the like.
fn file(shown: &str) -> Option<PathBuf> {
    let path = PathBuf::from(shown.trim_end_matches(" (deleted)"));
    (path.is_absolute() && path != Path::new("/dev/null")).then_some(path)
}

/// The arguments and the result of a call.
#[derive(Debug, Default)]
struct Words {
    /// Texts in quotes, each with the number of descriptors before it.
    texts: Vec<(String, usize)>,
    /// What descriptors are open on.
    descriptors: Vec<String>,
    /// Everything else.
    plain: String,
    /// Descriptors among the arguments; one more is the result.
    arguments: usize,
}

impl Words {
    fn of(line: &str) -> Words {
        let mut words = Words::default();
        let mut bytes = line.bytes().peekable();
        while let Some(byte) = bytes.next() {
            match byte {
                b'"' => {
                    let text = until(&mut bytes, b'"');
                    words.texts.push((text, words.descriptors.len()));
                }
                b'<' => {
                    let text = until(&mut bytes, b'>');
                    words.descriptors.push(text);
                }
                _ => {
                    words.plain.push(byte as char);
                    if words.plain.ends_with(") = ") {
                        words.arguments = words.descriptors.len();
                    }
                }
            }
        }
        words
    }

    /// Absolute paths of the texts: relative ones begin at the descriptor before them.
    fn paths(&self) -> impl Iterator<Item = PathBuf> {
        self.texts.iter().map(|(text, before)| {
            let base = before.checked_sub(1).and_then(|at| self.descriptors.get(at));
            Path::new(base.map_or("/relative", String::as_str)).join(text)
        })
    }

    fn first_descriptor(&self) -> Option<PathBuf> {
        self.descriptors.first().filter(|_| self.texts_before_first() == 0).and_then(|d| file(d))
    }

    /// `utimensat(AT_FDCWD<...>, "path")` names its file by the path.
    fn texts_before_first(&self) -> usize {
        usize::from(self.plain.starts_with("AT_FDCWD"))
    }

    fn last_descriptor(&self) -> Option<PathBuf> {
        self.descriptors.get(self.arguments..)?.last().and_then(|d| file(d))
    }

    fn address(&self) -> Result<SocketAddr, String> {
        let port = self.plain.split_once("htons(").and_then(|(_, rest)| rest.split_once(')'));
        let host = self.texts.first().map(|(text, _)| text.as_str());
        let address = port.zip(host).map(|((port, _), host)| format!("{host}:{port}"));
        let parsed = address.filter(|_| self.plain.contains("sin_addr"));
        parsed.and_then(|a| a.parse().ok()).ok_or_else(|| format!("{self:?}"))
    }
}

/// A text up to its end mark, with strace's escapes undone.
fn until(bytes: &mut std::iter::Peekable<std::str::Bytes>, end: u8) -> String {
    let mut text = Vec::new();
    while let Some(byte) = bytes.next() {
        if byte == end {
            break;
        }
        if byte != b'\\' {
            text.push(byte);
            continue;
        }
        match bytes.next() {
            Some(b'n') => text.push(b'\n'),
            Some(b't') => text.push(b'\t'),
            Some(first @ b'0'..=b'7') => {
                let mut value = u32::from(first - b'0');
                for _ in 0..2 {
                    if let Some(digit @ b'0'..=b'7') = bytes.peek().copied() {
                        value = value * 8 + u32::from(digit - b'0');
                        bytes.next();
                    }
                }
                text.push(value as u8);
            }
            other => text.extend(other),
        }
    }
    String::from_utf8_lossy(&text).into_owned()
}

#[test]
fn a_trace_is_read() {
    let mut trace = Trace::default();
    for line in [
        r#"openat(AT_FDCWD</srv>, "/etc/passwd", O_RDONLY|O_CLOEXEC) = 3</etc/passwd>"#,
        r#"openat(AT_FDCWD</srv>, "a\"b", O_RDWR|O_CREAT, 0666) = 3</elsewhere/x>"#,
        r#"openat(AT_FDCWD</srv>, "/no", O_WRONLY) = -1 EACCES (Permission denied)"#,
        r#"pwrite64(4</home/partial/f>, ""..., 262144, 8) = 262144"#,
        r#"write(1<pipe:[77]>, ""..., 5) = 5"#,
        r#"write(5<socket:[7]>, ""..., 5) = 5"#,
        r#"rename("/home/a", "/home/../b\303\244") = 0"#,
        r#"symlink("/text", "/home/l") = 0"#,
        r#"utimensat(6</home/m>, NULL, [UTIME_OMIT, {tv_sec=1}], 0) = 0"#,
        r#"copy_file_range(3</src>, NULL, 4</dst>, NULL, 9, 0) = 9"#,
        r#"readlink("/proc/self/exe", ""..., 4096) = 9"#,
        r#"connect(7<socket:[9]>, {sa_family=AF_INET, sin_port=htons(81), sin_addr=inet_addr("127.0.0.2")}, 16) = -1 EINPROGRESS (Operation now in progress)"#,
        r#"connect(7<socket:[9]>, {sa_family=AF_UNIX, sun_path="/run/nscd"}, 110) = -1 ENOENT"#,
        "+++ exited with 0 +++",
    ] {
        trace.line(line);
    }
    let written: Vec<&str> = trace.written.iter().map(|p| p.to_str().unwrap()).collect();
    assert_eq!(
        written,
        [
            "/srv/a\"b",
            "/elsewhere/x",
            "/no",
            "/home/partial/f",
            "/home/a",
            "/home/../bä",
            "/home/l",
            "/home/m",
            "/dst"
        ]
    );
    assert_eq!(trace.called[0], Ok("127.0.0.2:81".parse().unwrap()));
    assert!(trace.called.len() == 2 && trace.called[1].is_err());
    let outside = trace.outside(Path::new("/home"));
    let outside: Vec<&str> = outside.iter().map(|p| p.to_str().unwrap()).collect();
    assert_eq!(outside, ["/srv/a\"b", "/elsewhere/x", "/no", "/home/../bä", "/dst"]);
    assert_eq!(trace.calls, 13);
}
