//! What the controller is asked: jobs by their ids, and by their names where no id was recorded.

use super::submission::Submission;

/// Jobs and arrays that somebody wants to know about, of as many submissions as one likes: a controller serves everybody
/// and is asked once.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Question {
    /// Ids of jobs and arrays.
    pub ids: Vec<u64>,
    /// Names of those that were sent, but whose ids were not recorded.
    pub names: Vec<String>,
}

impl Question {
    /// The arrays of submissions. Lost ones too: a busy controller may have taken one later.
    pub fn of_arrays<'a>(submissions: impl IntoIterator<Item = &'a Submission>) -> Self {
        let arrays = submissions.into_iter().flat_map(|submission| &submission.file().arrays);
        Self::of(arrays.map(|array| (array.job, &array.name)))
    }

    /// The same without lost ones, for who asks again and again: for a name the controller sends its whole queue.
    pub fn without_lost<'a>(submissions: impl IntoIterator<Item = &'a Submission>) -> Self {
        let arrays = submissions.into_iter().flat_map(|submission| &submission.file().arrays);
        Self::of(arrays.filter(|array| !array.lost).map(|array| (array.job, &array.name)))
    }

    /// The jobs of a submission that collect.
    pub fn of_collectors(submission: &Submission) -> Self {
        Self::of(submission.file().collectors.iter().map(|collector| (collector.job, &collector.name)))
    }

    /// This and another one in one.
    #[must_use]
    pub fn and(mut self, other: Self) -> Self {
        self.ids.extend(other.ids);
        self.names.extend(other.names);
        self
    }

    fn of<'a>(jobs: impl Iterator<Item = (Option<u64>, &'a String)>) -> Self {
        let mut question = Self::default();
        for (id, name) in jobs {
            match id {
                Some(id) => question.ids.push(id),
                None => question.names.push(name.clone()),
            }
        }
        question
    }

    /// Whether it asks for nothing.
    pub fn is_empty(&self) -> bool {
        self.ids.is_empty() && self.names.is_empty()
    }
}
