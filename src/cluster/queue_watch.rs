//! The queue, asked now and then beside everything else: a controller that is away or hangs keeps nobody waiting.

use std::fmt;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, bounded};

use super::commands::{Leash, SearchPath};
use super::error::ClusterError;
use super::question::Question;
use super::queue::Job;
use super::slurm::Slurm;

/// Time between two questions: the controller serves everybody.
const ASK_EVERY: Duration = Duration::from_secs(30);
/// How long the first answer is waited for. Later ones are shown when they come.
const PATIENCE: Duration = Duration::from_secs(3);

/// What is known of the queue.
#[derive(Debug, Clone, Copy, Default)]
pub struct Answer<'a> {
    /// What the controller said last, and the time since it was asked; none while it has said nothing.
    pub jobs: Option<(&'a [Job], Duration)>,
    /// Why there is nothing newer.
    pub trouble: Option<&'a str>,
}

type Told = Result<Vec<Job>, ClusterError>;

/// Asks the controller, one question at a time, in a thread of its own.
pub struct QueueWatch {
    ask: Arc<dyn Fn(&Question) -> Told + Send + Sync>,
    patience: Duration,
    /// What is being asked since when, and where the answer comes.
    under_way: Option<(Question, Instant, Receiver<Told>)>,
    /// What it was asked last, and when.
    asked: Option<(Question, Instant)>,
    /// The last answer.
    told: Option<(Question, Instant, Vec<Job>)>,
    trouble: Option<String>,
    /// Holds what is being run.
    leash: Leash,
}

impl Drop for QueueWatch {
    /// A command that hangs would go on without anybody to tell, one more for every look.
    fn drop(&mut self) {
        self.leash.end();
    }
}

impl fmt::Debug for QueueWatch {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("QueueWatch").field("asked", &self.asked).finish_non_exhaustive()
    }
}

impl QueueWatch {
    /// Asks squeue on the search path, without repetitions: the next question is one. It ends with the watch, whatever it
    /// does.
    pub fn slurm() -> Self {
        Self::on(SearchPath::from_environment())
    }

    fn on(path: SearchPath) -> Self {
        let leash = Leash::default();
        let path = path.on(&leash);
        let ask = move |question: &Question| Slurm::with(path.clone(), Vec::new()).glance(question);
        let mut watch = Self::new(ask, PATIENCE);
        watch.leash = leash;
        watch
    }

    /// Asks somebody else, and waits for the first answer so long.
    pub fn new(ask: impl Fn(&Question) -> Told + Send + Sync + 'static, patience: Duration) -> Self {
        let ask = Arc::new(ask);
        let leash = Leash::default();
        Self { ask, patience, under_way: None, asked: None, told: None, trouble: None, leash }
    }

    /// What is known of the queue at `now`; asks if it is time.
    pub fn look(&mut self, question: Question, now: Instant) -> Answer<'_> {
        if question.is_empty() {
            return Answer { jobs: Some((&[], Duration::ZERO)), trouble: None };
        }
        self.collect(Duration::ZERO, now);
        if self.under_way.is_none() && self.is_time(&question, now) {
            self.begin(question.clone(), now);
            let patience = if self.told.is_none() { self.patience } else { Duration::ZERO };
            self.collect(patience, now);
        }
        // An answer to another question says nothing of what was submitted since.
        let told = self.told.as_ref().filter(|(asked, ..)| *asked == question);
        let jobs = told.map(|(_, at, jobs)| (&**jobs, now.saturating_duration_since(*at)));
        Answer { jobs, trouble: self.trouble.as_deref() }
    }

    fn is_time(&self, question: &Question, now: Instant) -> bool {
        let Some((asked, at)) = &self.asked else { return true };
        asked != question || now.saturating_duration_since(*at) >= ASK_EVERY
    }

    fn begin(&mut self, question: Question, now: Instant) {
        self.asked = Some((question.clone(), now));
        let (sender, receiver) = bounded(1);
        let (ask, asked) = (Arc::clone(&self.ask), question.clone());
        let body = move || {
            // Nobody waits for it any more: the view has ended.
            let _ = sender.send(ask(&asked));
        };
        match thread::Builder::new().name("squeue".to_owned()).spawn(body) {
            Ok(_) => self.under_way = Some((question, now, receiver)),
            Err(error) => self.trouble = Some(format!("no thread to ask it: {error}")),
        }
    }

    /// Takes the answer, if it is there within `patience`.
    fn collect(&mut self, patience: Duration, now: Instant) {
        let Some((question, since, receiver)) = self.under_way.take() else { return };
        match receiver.recv_timeout(patience) {
            Ok(Ok(jobs)) => (self.told, self.trouble) = (Some((question, since, jobs)), None),
            Ok(Err(error)) => self.trouble = Some(brief(&error)),
            Err(RecvTimeoutError::Disconnected) => self.trouble = Some("asking it failed".to_owned()),
            Err(RecvTimeoutError::Timeout) => {
                let is_late = patience > Duration::ZERO || now.saturating_duration_since(since) > PATIENCE;
                if is_late {
                    self.trouble = Some("the controller does not answer".to_owned());
                }
                self.under_way = Some((question, since, receiver));
            }
        }
    }
}

/// An error in one line, without advice for whoever submits.
fn brief(error: &ClusterError) -> String {
    match error {
        ClusterError::NoProgram { program } => format!("{program} is not on this machine"),
        ClusterError::Busy { message, .. } | ClusterError::Refused { message, .. } => message.clone(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;
    use crate::cluster::queue;

    /// Longer than any machine takes to run a thread.
    const LONG: Duration = Duration::from_secs(600);

    fn question(id: u64) -> Question {
        Question { ids: vec![id], names: Vec::new() }
    }

    fn running(id: u64) -> Vec<Job> {
        queue::parse(&format!("{id}_0|RUNNING|node1|x|None")).unwrap()
    }

    /// A controller that says what the test sends, counting the questions.
    fn controller() -> (crossbeam_channel::Sender<Told>, Arc<AtomicUsize>, QueueWatch) {
        let (answers, told) = bounded::<Told>(8);
        let asked = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&asked);
        let ask = move |_: &Question| {
            count.fetch_add(1, Ordering::SeqCst);
            told.recv().unwrap_or_else(|_| Ok(Vec::new()))
        };
        (answers, asked, QueueWatch::new(ask, LONG))
    }

    #[test]
    fn a_controller_that_hangs_keeps_nobody_waiting_and_its_last_answer_grows_old() {
        let (answers, asked, mut watch) = controller();
        let begin = Instant::now();
        let at = |seconds| begin + Duration::from_secs(seconds);
        answers.send(Ok(running(7))).unwrap();
        let first = watch.look(question(7), at(0));
        assert_eq!((first.jobs, first.trouble), (Some((&*running(7), Duration::ZERO)), None));
        // Nobody answers from here on.
        for seconds in [5, 29, 30, 35, 50] {
            let later = watch.look(question(7), at(seconds));
            assert_eq!(later.jobs, Some((&*running(7), Duration::from_secs(seconds))));
            assert_eq!(later.trouble.is_some(), seconds > 30, "{seconds} s: {later:?}");
        }
        answers.send(Ok(Vec::new())).unwrap();
        while watch.look(question(7), at(59)).trouble.is_some() {
            thread::yield_now();
        }
        assert_eq!(watch.look(question(7), at(59)).jobs, Some((&[][..], Duration::from_secs(29))));
        assert_eq!(
            asked.load(Ordering::SeqCst),
            2,
            "one question at a time, and none twice in half a minute"
        );
    }

    #[test]
    fn a_controller_that_never_answered_is_not_waited_for_again() {
        let (_answers, _, mut watch) = controller();
        watch.patience = Duration::from_millis(1);
        let begin = Instant::now();
        for seconds in 0..90 {
            let answer = watch.look(question(7), begin + Duration::from_secs(seconds));
            assert!(answer.jobs.is_none());
            assert_eq!(answer.trouble, Some("the controller does not answer"));
            watch.patience = LONG;
        }
    }

    #[test]
    fn an_answer_says_nothing_of_what_was_submitted_since() {
        let (answers, asked, mut watch) = controller();
        let begin = Instant::now();
        answers.send(Ok(running(7))).unwrap();
        assert!(watch.look(question(7), begin).jobs.is_some());
        assert!(watch.look(question(8), begin).jobs.is_none(), "the answer is to another question");
        answers.send(Ok(running(8))).unwrap();
        while watch.look(question(8), begin).jobs.is_none() {
            thread::yield_now();
        }
        assert_eq!(watch.look(question(8), begin).jobs.unwrap().0, running(8));
        assert_eq!(asked.load(Ordering::SeqCst), 2);
    }

    #[test]
    fn errors_are_told_in_brief() {
        let (answers, _, mut watch) = controller();
        let program = "squeue".to_owned();
        answers.send(Err(ClusterError::NoProgram { program: program.clone() })).unwrap();
        let begin = Instant::now();
        let answer = watch.look(question(7), begin);
        assert!(answer.jobs.is_none());
        assert_eq!(answer.trouble, Some("squeue is not on this machine"));
        let message = "Unable to contact slurm controller".to_owned();
        answers.send(Err(ClusterError::Busy { program, tries: 1, message: message.clone() })).unwrap();
        let answer = watch.look(question(7), begin + ASK_EVERY);
        assert_eq!(answer.trouble, Some(&*message));
    }

    #[test]
    fn a_squeue_that_hangs_ends_with_the_watch() {
        let folder = tempfile::tempdir().unwrap();
        let script = "#!/bin/sh\necho $$ > \"$0.pid\"\nexec sleep 600\n";
        let path = folder.path().join("squeue");
        fs::write(&path, script).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        let mut watch = QueueWatch::on(SearchPath::new(folder.path()));
        watch.patience = Duration::from_millis(1);
        assert!(watch.look(question(7), Instant::now()).jobs.is_none());
        let pid = loop {
            let text = fs::read_to_string(folder.path().join("squeue.pid")).unwrap_or_default();
            match text.strip_suffix('\n') {
                Some(pid) => break pid.to_owned(),
                None => thread::yield_now(),
            }
        };
        drop(watch);
        // Gone, or not yet waited for.
        let is_there = || {
            let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with('Z'))
        };
        while is_there() {
            thread::yield_now();
        }
    }

    #[test]
    fn nothing_to_ask_is_known_at_once() {
        let (_answers, asked, mut watch) = controller();
        let answer = watch.look(Question::default(), Instant::now());
        assert!(answer.jobs.is_some_and(|(jobs, _)| jobs.is_empty()) && answer.trouble.is_none());
        assert_eq!(asked.load(Ordering::SeqCst), 0);
    }
}
