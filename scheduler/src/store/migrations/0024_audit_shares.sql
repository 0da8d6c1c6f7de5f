-- Notes are kept apart by what it takes to make them, so that nobody floods out those of what they may not do: 0 operators and the
-- farm itself, 1 submissions, 2 logins, 3 artists, 4 admins. Pruned: see AUDIT_KEPT_MAX.

ALTER TABLE audit RENAME COLUMN bulk TO share;
UPDATE audit SET share = 2 WHERE action IN ('session.begin', 'session.end');
UPDATE audit SET share = 3 WHERE action IN ('job.change', 'job.cancel', 'job.pause', 'job.resume', 'job.retry', 'job.budget', 'schedule.run');
UPDATE audit SET share = 4 WHERE action IN ('token.add', 'token.revoke');
