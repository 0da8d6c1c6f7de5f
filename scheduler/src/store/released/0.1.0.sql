-- The database of a farm of version 0.1.0, as it was when its scheduler was killed: jobs in all states.
BEGIN TRANSACTION;
CREATE TABLE attempts (
    chunk      INTEGER NOT NULL,
    attempt    INTEGER NOT NULL,
    job        INTEGER NOT NULL,
    step       INTEGER NOT NULL,
    worker     TEXT    NOT NULL,
    tasks      TEXT    NOT NULL,           -- JSON [[first, end], …], as claimed
    outcome    TEXT    NOT NULL,           -- running finished handed_back canceled license_wait lost
    done       INTEGER NOT NULL,
    failed     INTEGER NOT NULL,
    log_bytes  INTEGER NOT NULL,
    started_at INTEGER NOT NULL,
    ended_at   INTEGER,
    PRIMARY KEY (chunk, attempt)
) WITHOUT ROWID;
INSERT INTO "attempts" VALUES(1,1,1,0,'w1a1fd726686-1','[[0,1]]','finished',1,0,0,1795253495598,1795253495620);
INSERT INTO "attempts" VALUES(2,1,1,0,'w1a1fd726686-2','[[1,2]]','finished',1,0,0,1795253495599,1795253495609);
INSERT INTO "attempts" VALUES(3,1,1,0,'w1a1fd726686-2','[[2,3]]','finished',1,0,0,1795253495620,1795253495642);
INSERT INTO "attempts" VALUES(4,1,1,0,'w1a1fd726686-1','[[3,4]]','finished',1,0,0,1795253495620,1795253495644);
INSERT INTO "attempts" VALUES(5,1,1,0,'w1a1fd726686-2','[[4,5]]','finished',1,0,0,1795253495644,1795253495648);
INSERT INTO "attempts" VALUES(6,1,1,0,'w1a1fd726686-1','[[5,6]]','finished',1,0,0,1795253495644,1795253495658);
INSERT INTO "attempts" VALUES(7,1,1,0,'w1a1fd726686-2','[[6,7]]','finished',1,0,0,1795253495658,1795253495671);
INSERT INTO "attempts" VALUES(8,1,1,0,'w1a1fd726686-1','[[7,8]]','finished',1,0,0,1795253495658,1795253495671);
INSERT INTO "attempts" VALUES(9,1,1,0,'w1a1fd726686-1','[[8,9]]','finished',1,0,0,1795253495672,1795253495677);
INSERT INTO "attempts" VALUES(10,1,1,0,'w1a1fd726686-2','[[9,10]]','finished',1,0,0,1795253495672,1795253495676);
INSERT INTO "attempts" VALUES(11,1,2,0,'w1a1fd726686-2','[[0,1]]','finished',1,0,0,1795253495685,1795253495699);
INSERT INTO "attempts" VALUES(12,1,2,0,'w1a1fd726686-1','[[1,2]]','finished',1,0,0,1795253495686,1795253495701);
INSERT INTO "attempts" VALUES(13,1,2,0,'w1a1fd726686-2','[[2,3]]','finished',0,1,64,1795253495701,1795253495710);
INSERT INTO "attempts" VALUES(14,1,2,0,'w1a1fd726686-1','[[3,4]]','finished',1,0,0,1795253495701,1795253495716);
INSERT INTO "attempts" VALUES(15,1,2,0,'w1a1fd726686-2','[[4,5]]','finished',1,0,0,1795253495714,1795253495727);
INSERT INTO "attempts" VALUES(16,1,2,0,'w1a1fd726686-1','[[2,3]]','finished',0,1,64,1795253495759,1795253495766);
INSERT INTO "attempts" VALUES(21,1,4,0,'w1a1fd726686-3','[[0,1]]','finished',0,1,64,1795253495854,1795253495866);
INSERT INTO "attempts" VALUES(22,1,4,0,'w1a1fd726686-3','[[1,2]]','finished',1,0,0,1795253495872,1795253495893);
INSERT INTO "attempts" VALUES(24,1,5,0,'w1a1fd726686-4','[[0,4]]','running',0,0,0,1795253496450,NULL);
INSERT INTO "attempts" VALUES(27,1,6,0,'w1a1fd726686-3','[[0,1]]','finished',1,0,0,1795253497780,1795253497805);
CREATE TABLE chunks (
    id      INTEGER PRIMARY KEY,
    job     INTEGER NOT NULL,
    step    INTEGER NOT NULL,
    tasks   TEXT    NOT NULL,              -- JSON [[first, end], …]
    attempt INTEGER NOT NULL,
    spent   INTEGER NOT NULL,
    losses  INTEGER NOT NULL,
    worker  TEXT,                          -- the holder; NULL while it waits
    avoid   TEXT,
    since   INTEGER NOT NULL,              -- held since, or not to be offered before
    done    INTEGER NOT NULL,              -- tasks of the attempt that holds it, so far
    failed  INTEGER NOT NULL
);
INSERT INTO "chunks" VALUES(23,4,0,'[[0,1]]',0,1,0,NULL,NULL,1795253739048,0,0);
INSERT INTO "chunks" VALUES(24,5,0,'[[3,4]]',1,0,0,'w1a1fd726686-4',NULL,1795253496450,3,0);
CREATE TABLE done_tasks (
    job     INTEGER NOT NULL,
    step    INTEGER NOT NULL,
    segment INTEGER NOT NULL,              -- task / 4096
    bits    BLOB    NOT NULL,              -- 512 bytes, least significant bit first
    PRIMARY KEY (job, step, segment)
) WITHOUT ROWID;
INSERT INTO "done_tasks" VALUES(1,0,0,X'FF03000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000');
INSERT INTO "done_tasks" VALUES(2,0,0,X'1B00000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000');
INSERT INTO "done_tasks" VALUES(4,0,0,X'0200000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000');
INSERT INTO "done_tasks" VALUES(5,0,0,X'0700000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000');
INSERT INTO "done_tasks" VALUES(6,0,0,X'0100000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000');
CREATE TABLE events (
    seq  INTEGER PRIMARY KEY AUTOINCREMENT,
    job  INTEGER NOT NULL,
    at   INTEGER NOT NULL,
    body TEXT    NOT NULL                  -- JSON of api::Happening
);
INSERT INTO "events" VALUES(1,1,1795253495569,'{"event":"job_state","state":"queued"}');
INSERT INTO "events" VALUES(2,1,1795253495569,'{"event":"step_state","step":"run","state":"ready"}');
INSERT INTO "events" VALUES(3,1,1795253495598,'{"event":"attempt_started","step":"run","attempt":"1.1","worker":"w1a1fd726686-1","frames":"10"}');
INSERT INTO "events" VALUES(4,1,1795253495598,'{"event":"step_state","step":"run","state":"running"}');
INSERT INTO "events" VALUES(5,1,1795253495598,'{"event":"job_state","state":"running"}');
INSERT INTO "events" VALUES(6,1,1795253495599,'{"event":"attempt_started","step":"run","attempt":"2.1","worker":"w1a1fd726686-2","frames":"11"}');
INSERT INTO "events" VALUES(7,1,1795253495609,'{"event":"tasks_done","step":"run","frames":[11],"tasks":{"total":10,"waiting":4,"open":5,"done":1,"failed":0}}');
INSERT INTO "events" VALUES(8,1,1795253495609,'{"event":"attempt_ended","step":"run","attempt":"2.1","outcome":"finished"}');
INSERT INTO "events" VALUES(9,1,1795253495620,'{"event":"tasks_done","step":"run","frames":[10],"tasks":{"total":10,"waiting":2,"open":6,"done":2,"failed":0}}');
INSERT INTO "events" VALUES(10,1,1795253495620,'{"event":"attempt_ended","step":"run","attempt":"1.1","outcome":"finished"}');
INSERT INTO "events" VALUES(11,1,1795253495620,'{"event":"attempt_started","step":"run","attempt":"3.1","worker":"w1a1fd726686-2","frames":"12"}');
INSERT INTO "events" VALUES(12,1,1795253495620,'{"event":"attempt_started","step":"run","attempt":"4.1","worker":"w1a1fd726686-1","frames":"13"}');
INSERT INTO "events" VALUES(13,1,1795253495642,'{"event":"tasks_done","step":"run","frames":[12],"tasks":{"total":10,"waiting":2,"open":5,"done":3,"failed":0}}');
INSERT INTO "events" VALUES(14,1,1795253495642,'{"event":"attempt_ended","step":"run","attempt":"3.1","outcome":"finished"}');
INSERT INTO "events" VALUES(15,1,1795253495644,'{"event":"attempt_started","step":"run","attempt":"5.1","worker":"w1a1fd726686-2","frames":"14"}');
INSERT INTO "events" VALUES(16,1,1795253495644,'{"event":"tasks_done","step":"run","frames":[13],"tasks":{"total":10,"waiting":0,"open":6,"done":4,"failed":0}}');
INSERT INTO "events" VALUES(17,1,1795253495644,'{"event":"attempt_ended","step":"run","attempt":"4.1","outcome":"finished"}');
INSERT INTO "events" VALUES(18,1,1795253495644,'{"event":"attempt_started","step":"run","attempt":"6.1","worker":"w1a1fd726686-1","frames":"15"}');
INSERT INTO "events" VALUES(19,1,1795253495648,'{"event":"tasks_done","step":"run","frames":[14],"tasks":{"total":10,"waiting":0,"open":5,"done":5,"failed":0}}');
INSERT INTO "events" VALUES(20,1,1795253495648,'{"event":"attempt_ended","step":"run","attempt":"5.1","outcome":"finished"}');
INSERT INTO "events" VALUES(21,1,1795253495658,'{"event":"tasks_done","step":"run","frames":[15],"tasks":{"total":10,"waiting":0,"open":4,"done":6,"failed":0}}');
INSERT INTO "events" VALUES(22,1,1795253495658,'{"event":"attempt_ended","step":"run","attempt":"6.1","outcome":"finished"}');
INSERT INTO "events" VALUES(23,1,1795253495658,'{"event":"attempt_started","step":"run","attempt":"7.1","worker":"w1a1fd726686-2","frames":"16"}');
INSERT INTO "events" VALUES(24,1,1795253495658,'{"event":"attempt_started","step":"run","attempt":"8.1","worker":"w1a1fd726686-1","frames":"17"}');
INSERT INTO "events" VALUES(25,1,1795253495671,'{"event":"tasks_done","step":"run","frames":[17,16],"tasks":{"total":10,"waiting":0,"open":2,"done":8,"failed":0}}');
INSERT INTO "events" VALUES(26,1,1795253495671,'{"event":"attempt_ended","step":"run","attempt":"8.1","outcome":"finished"}');
INSERT INTO "events" VALUES(27,1,1795253495671,'{"event":"attempt_ended","step":"run","attempt":"7.1","outcome":"finished"}');
INSERT INTO "events" VALUES(28,1,1795253495672,'{"event":"attempt_started","step":"run","attempt":"9.1","worker":"w1a1fd726686-1","frames":"18"}');
INSERT INTO "events" VALUES(29,1,1795253495672,'{"event":"attempt_started","step":"run","attempt":"10.1","worker":"w1a1fd726686-2","frames":"19"}');
INSERT INTO "events" VALUES(30,1,1795253495676,'{"event":"tasks_done","step":"run","frames":[19],"tasks":{"total":10,"waiting":0,"open":1,"done":9,"failed":0}}');
INSERT INTO "events" VALUES(31,1,1795253495676,'{"event":"attempt_ended","step":"run","attempt":"10.1","outcome":"finished"}');
INSERT INTO "events" VALUES(32,1,1795253495677,'{"event":"tasks_done","step":"run","frames":[18],"tasks":{"total":10,"waiting":0,"open":0,"done":10,"failed":0}}');
INSERT INTO "events" VALUES(33,1,1795253495677,'{"event":"attempt_ended","step":"run","attempt":"9.1","outcome":"finished"}');
INSERT INTO "events" VALUES(34,1,1795253495677,'{"event":"step_state","step":"run","state":"succeeded"}');
INSERT INTO "events" VALUES(35,1,1795253495677,'{"event":"job_state","state":"succeeded"}');
INSERT INTO "events" VALUES(36,2,1795253495684,'{"event":"job_state","state":"queued"}');
INSERT INTO "events" VALUES(37,2,1795253495684,'{"event":"step_state","step":"run","state":"ready"}');
INSERT INTO "events" VALUES(38,2,1795253495685,'{"event":"attempt_started","step":"run","attempt":"11.1","worker":"w1a1fd726686-2","frames":"1"}');
INSERT INTO "events" VALUES(39,2,1795253495685,'{"event":"step_state","step":"run","state":"running"}');
INSERT INTO "events" VALUES(40,2,1795253495685,'{"event":"job_state","state":"running"}');
INSERT INTO "events" VALUES(41,2,1795253495686,'{"event":"attempt_started","step":"run","attempt":"12.1","worker":"w1a1fd726686-1","frames":"2"}');
INSERT INTO "events" VALUES(42,2,1795253495699,'{"event":"tasks_done","step":"run","frames":[1],"tasks":{"total":5,"waiting":0,"open":4,"done":1,"failed":0}}');
INSERT INTO "events" VALUES(43,2,1795253495699,'{"event":"attempt_ended","step":"run","attempt":"11.1","outcome":"finished"}');
INSERT INTO "events" VALUES(44,2,1795253495701,'{"event":"attempt_started","step":"run","attempt":"13.1","worker":"w1a1fd726686-2","frames":"3"}');
INSERT INTO "events" VALUES(45,2,1795253495701,'{"event":"attempt_started","step":"run","attempt":"14.1","worker":"w1a1fd726686-1","frames":"4"}');
INSERT INTO "events" VALUES(46,2,1795253495701,'{"event":"tasks_done","step":"run","frames":[2],"tasks":{"total":5,"waiting":0,"open":3,"done":2,"failed":0}}');
INSERT INTO "events" VALUES(47,2,1795253495701,'{"event":"attempt_ended","step":"run","attempt":"12.1","outcome":"finished"}');
INSERT INTO "events" VALUES(48,2,1795253495710,'{"event":"task_failed","step":"run","frame":3,"attempt":"13.1","verdict":"retry_same","message":"the renderer exited with code 3","again":true}');
INSERT INTO "events" VALUES(49,2,1795253495710,'{"event":"attempt_ended","step":"run","attempt":"13.1","outcome":"finished"}');
INSERT INTO "events" VALUES(50,2,1795253495714,'{"event":"attempt_started","step":"run","attempt":"15.1","worker":"w1a1fd726686-2","frames":"5"}');
INSERT INTO "events" VALUES(51,2,1795253495716,'{"event":"tasks_done","step":"run","frames":[4],"tasks":{"total":5,"waiting":1,"open":1,"done":3,"failed":0}}');
INSERT INTO "events" VALUES(52,2,1795253495716,'{"event":"attempt_ended","step":"run","attempt":"14.1","outcome":"finished"}');
INSERT INTO "events" VALUES(53,2,1795253495727,'{"event":"tasks_done","step":"run","frames":[5],"tasks":{"total":5,"waiting":1,"open":0,"done":4,"failed":0}}');
INSERT INTO "events" VALUES(54,2,1795253495727,'{"event":"attempt_ended","step":"run","attempt":"15.1","outcome":"finished"}');
INSERT INTO "events" VALUES(55,2,1795253495759,'{"event":"attempt_started","step":"run","attempt":"16.1","worker":"w1a1fd726686-1","frames":"3"}');
INSERT INTO "events" VALUES(56,2,1795253495766,'{"event":"task_failed","step":"run","frame":3,"attempt":"16.1","verdict":"retry_same","message":"the renderer exited with code 3","again":false}');
INSERT INTO "events" VALUES(57,2,1795253495766,'{"event":"attempt_ended","step":"run","attempt":"16.1","outcome":"finished"}');
INSERT INTO "events" VALUES(58,2,1795253495766,'{"event":"step_state","step":"run","state":"failed"}');
INSERT INTO "events" VALUES(59,2,1795253495766,'{"event":"job_state","state":"failed"}');
INSERT INTO "events" VALUES(60,3,1795253495794,'{"event":"job_state","state":"queued"}');
INSERT INTO "events" VALUES(61,3,1795253495794,'{"event":"step_state","step":"run","state":"ready"}');
INSERT INTO "events" VALUES(62,3,1795253495797,'{"event":"step_state","step":"run","state":"canceled"}');
INSERT INTO "events" VALUES(63,3,1795253495797,'{"event":"job_state","state":"canceled"}');
INSERT INTO "events" VALUES(64,4,1795253495807,'{"event":"job_state","state":"queued"}');
INSERT INTO "events" VALUES(65,4,1795253495807,'{"event":"step_state","step":"run","state":"ready"}');
INSERT INTO "events" VALUES(66,4,1795253495854,'{"event":"attempt_started","step":"run","attempt":"21.1","worker":"w1a1fd726686-3","frames":"3"}');
INSERT INTO "events" VALUES(67,4,1795253495854,'{"event":"step_state","step":"run","state":"running"}');
INSERT INTO "events" VALUES(68,4,1795253495854,'{"event":"job_state","state":"running"}');
INSERT INTO "events" VALUES(69,4,1795253495866,'{"event":"task_failed","step":"run","frame":3,"attempt":"21.1","verdict":"retry_same","message":"the renderer exited with code 3","again":true}');
INSERT INTO "events" VALUES(70,4,1795253495866,'{"event":"attempt_ended","step":"run","attempt":"21.1","outcome":"finished"}');
INSERT INTO "events" VALUES(71,4,1795253495872,'{"event":"attempt_started","step":"run","attempt":"22.1","worker":"w1a1fd726686-3","frames":"4"}');
INSERT INTO "events" VALUES(72,4,1795253495893,'{"event":"tasks_done","step":"run","frames":[4],"tasks":{"total":2,"waiting":1,"open":0,"done":1,"failed":0}}');
INSERT INTO "events" VALUES(73,4,1795253495893,'{"event":"attempt_ended","step":"run","attempt":"22.1","outcome":"finished"}');
INSERT INTO "events" VALUES(74,5,1795253496426,'{"event":"job_state","state":"queued"}');
INSERT INTO "events" VALUES(75,5,1795253496426,'{"event":"step_state","step":"render","state":"ready"}');
INSERT INTO "events" VALUES(76,5,1795253496450,'{"event":"attempt_started","step":"render","attempt":"24.1","worker":"w1a1fd726686-4","frames":"1-4"}');
INSERT INTO "events" VALUES(77,5,1795253496450,'{"event":"step_state","step":"render","state":"running"}');
INSERT INTO "events" VALUES(78,5,1795253496450,'{"event":"job_state","state":"running"}');
INSERT INTO "events" VALUES(79,5,1795253496910,'{"event":"tasks_done","step":"render","frames":[1],"tasks":{"total":12,"waiting":0,"open":11,"done":1,"failed":0}}');
INSERT INTO "events" VALUES(80,5,1795253497313,'{"event":"tasks_done","step":"render","frames":[2],"tasks":{"total":12,"waiting":0,"open":10,"done":2,"failed":0}}');
INSERT INTO "events" VALUES(81,5,1795253497720,'{"event":"tasks_done","step":"render","frames":[3],"tasks":{"total":12,"waiting":0,"open":9,"done":3,"failed":0}}');
INSERT INTO "events" VALUES(82,6,1795253497747,'{"event":"job_state","state":"queued"}');
INSERT INTO "events" VALUES(83,6,1795253497747,'{"event":"step_state","step":"run","state":"ready"}');
INSERT INTO "events" VALUES(84,6,1795253497780,'{"event":"attempt_started","step":"run","attempt":"27.1","worker":"w1a1fd726686-3","frames":"20"}');
INSERT INTO "events" VALUES(85,6,1795253497780,'{"event":"step_state","step":"run","state":"running"}');
INSERT INTO "events" VALUES(86,6,1795253497780,'{"event":"job_state","state":"running"}');
INSERT INTO "events" VALUES(87,6,1795253497781,'{"event":"job_state","state":"paused"}');
INSERT INTO "events" VALUES(88,7,1795253497799,'{"event":"job_state","state":"queued"}');
INSERT INTO "events" VALUES(89,7,1795253497799,'{"event":"step_state","step":"run","state":"ready"}');
INSERT INTO "events" VALUES(90,6,1795253497805,'{"event":"tasks_done","step":"run","frames":[20],"tasks":{"total":5,"waiting":4,"open":0,"done":1,"failed":0}}');
INSERT INTO "events" VALUES(91,6,1795253497805,'{"event":"attempt_ended","step":"run","attempt":"27.1","outcome":"finished"}');
CREATE TABLE failures (
    job      INTEGER NOT NULL,
    step     INTEGER NOT NULL,
    task     INTEGER NOT NULL,
    verdict  TEXT    NOT NULL,
    message  TEXT    NOT NULL,
    evidence TEXT    NOT NULL,
    chunk    INTEGER NOT NULL,
    attempt  INTEGER NOT NULL,
    at       INTEGER NOT NULL,
    PRIMARY KEY (job, step, task)
) WITHOUT ROWID;
INSERT INTO "failures" VALUES(2,0,2,'retry_same','the renderer exited with code 3','',16,1,1795253495766);
CREATE TABLE functions (
    name     TEXT    NOT NULL,
    version  INTEGER NOT NULL,
    spec     TEXT    NOT NULL,             -- JSON of FunctionSpec
    added_at INTEGER NOT NULL,             -- milliseconds since 1970, as all times here
    PRIMARY KEY (name, version)
) WITHOUT ROWID;
INSERT INTO "functions" VALUES('copy',1,'{"name":"copy","description":"","driver":{"kind":"command","per":"frame","command":["/bin/sh","-c","test {frame} -ne 3 || exit 3; echo {frame} > {output}"]},"rules":"generic","resources":{"gpus":0,"slots":1},"scaling":{"max":2,"linger":"2s"}}',1795253495433);
INSERT INTO "functions" VALUES('slow',1,'{"name":"slow","description":"","driver":{"kind":"command","per":"frame","command":["/bin/sh","-c","sleep 0.4"]},"rules":"generic","resources":{"gpus":0,"slots":1},"scaling":{"max":2,"linger":"2s"}}',1795253495435);
CREATE TABLE idempotency (
    key         TEXT PRIMARY KEY,
    body_sha256 BLOB    NOT NULL,
    job         INTEGER NOT NULL,
    at          INTEGER NOT NULL
) WITHOUT ROWID;
INSERT INTO "idempotency" VALUES('key-bad',X'B2364F0CAF76EAEF1112C692A2348C5E426F48FEF74A3176049E34C29A7A7F48',2,1795253495684);
INSERT INTO "idempotency" VALUES('key-gone',X'F01A0F242A072DE43B73ABAA62786259179377CB3C5BADAF5FDD34594A0C66C4',3,1795253495794);
INSERT INTO "idempotency" VALUES('key-good',X'B424B89BE093537DDBBD35562C12F6C5CA2E6B18BFD8BD03EC8F097C5D5E07F6',1,1795253495569);
INSERT INTO "idempotency" VALUES('key-paused',X'5399284C38681962444FA8FD43217CF5B03DB87BD11E613E29CD007A51761F76',6,1795253497747);
INSERT INTO "idempotency" VALUES('key-queued',X'D561A7F7089CC72A9E078176A79DFED2E73BE4101E5A0F930F01E659D13F6CB3',7,1795253497799);
INSERT INTO "idempotency" VALUES('key-retry',X'B4453172A6DB370B9D502426D50939E8F9222800C37D5417428C3E6E18787D72',4,1795253495807);
INSERT INTO "idempotency" VALUES('key-running',X'9F10D4D8BDFD09DE25C8739964FC910BB6029917688DBF8CC9B93B9186FBDBE1',5,1795253496426);
CREATE TABLE jobs (
    seq          INTEGER PRIMARY KEY,      -- order of submission; the short name of the job in other tables
    id           TEXT    NOT NULL UNIQUE,  -- ULID
    name         TEXT    NOT NULL,
    project      TEXT    NOT NULL,
    priority     INTEGER NOT NULL,
    state        TEXT    NOT NULL,         -- queued running paused succeeded failed canceled
    labels       TEXT    NOT NULL,         -- JSON object
    spec         TEXT    NOT NULL,         -- JSON of JobSpec, as submitted, functions with their version
    submitted_at INTEGER NOT NULL,
    finished_at  INTEGER
);
INSERT INTO "jobs" VALUES(1,'01M7YQ4SRHFBZ3BVE3FB6FWKXG','good','default',50,'succeeded','{"shot":"good"}','{"name":"good","project":"default","priority":50,"labels":{"shot":"good"},"steps":[{"name":"run","function":"copy@1","frames":"10-19","output":"{frame:04}.txt","chunking":{"mode":"auto","target":"30s"},"retries":{"attempts":3,"backoff":"1s","backoff_max":"5m"},"timeouts":{"frame":"1h","silent":"15m","chunk":"6h"},"verify":{"black":"refuse","nan":"refuse"},"allow_cpu":false}]}',1795253495569,1795253495677);
INSERT INTO "jobs" VALUES(2,'01M7YQ4SW417FZ6Q634YASGY50','bad','default',50,'failed','{"shot":"bad"}','{"name":"bad","project":"default","priority":50,"labels":{"shot":"bad"},"steps":[{"name":"run","function":"copy@1","frames":"1-5","output":"{frame:04}.txt","chunking":{"mode":"auto","target":"30s"},"retries":{"attempts":2,"backoff":"50ms","backoff_max":"5m"},"timeouts":{"frame":"1h","silent":"15m","chunk":"6h"},"verify":{"black":"refuse","nan":"refuse"},"allow_cpu":false}]}',1795253495684,1795253495766);
INSERT INTO "jobs" VALUES(3,'01M7YQ4SZJFE0TWP23NDJFN6GE','gone','default',50,'canceled','{"shot":"gone"}','{"name":"gone","project":"default","priority":50,"labels":{"shot":"gone"},"steps":[{"name":"run","function":"slow@1","frames":"1-50","chunking":{"mode":"auto","target":"30s"},"retries":{"attempts":3,"backoff":"1s","backoff_max":"5m"},"timeouts":{"frame":"1h","silent":"15m","chunk":"6h"},"verify":{"black":"refuse","nan":"refuse"},"allow_cpu":false}]}',1795253495794,1795253495797);
INSERT INTO "jobs" VALUES(4,'01M7YQ4T009BRNPBHC8JJHWHCP','retry','default',50,'running','{"shot":"retry"}','{"name":"retry","project":"default","priority":50,"labels":{"shot":"retry"},"steps":[{"name":"run","function":"copy@1","frames":"3-4","output":"{frame:04}.txt","chunking":{"mode":"auto","target":"30s"},"retries":{"attempts":3,"backoff":"10m","backoff_max":"5m"},"timeouts":{"frame":"1h","silent":"15m","chunk":"6h"},"verify":{"black":"refuse","nan":"refuse"},"allow_cpu":false}]}',1795253495807,NULL);
INSERT INTO "jobs" VALUES(5,'01M7YQ4TKB0127FS8SGECGS7ZE','running','film',80,'running','{}','{"name":"running","project":"film","priority":50,"steps":[{"name":"render","function":"slow@1","frames":"1-12","chunking":{"mode":"fixed","size":4},"retries":{"attempts":3,"backoff":"1s","backoff_max":"5m"},"timeouts":{"frame":"1h","silent":"15m","chunk":"6h"},"verify":{"black":"refuse","nan":"refuse"},"allow_cpu":false},{"name":"after","function":"slow@1","chunking":{"mode":"auto","target":"30s"},"retries":{"attempts":3,"backoff":"1s","backoff_max":"5m"},"timeouts":{"frame":"1h","silent":"15m","chunk":"6h"},"verify":{"black":"refuse","nan":"refuse"},"allow_cpu":false,"after":["render"]}]}',1795253496426,NULL);
INSERT INTO "jobs" VALUES(6,'01M7YQ4VWK88DAGCNRPHRMNQWH','paused','default',50,'paused','{"shot":"paused"}','{"name":"paused","project":"default","priority":50,"labels":{"shot":"paused"},"steps":[{"name":"run","function":"copy@1","frames":"20-24","output":"{frame:04}.txt","chunking":{"mode":"auto","target":"30s"},"retries":{"attempts":3,"backoff":"1s","backoff_max":"5m"},"timeouts":{"frame":"1h","silent":"15m","chunk":"6h"},"verify":{"black":"refuse","nan":"refuse"},"allow_cpu":false}]}',1795253497747,NULL);
INSERT INTO "jobs" VALUES(7,'01M7YQ4VY8BPBQEFHC8QDZ11MR','queued','default',50,'queued','{"shot":"queued"}','{"name":"queued","project":"default","priority":50,"labels":{"shot":"queued"},"steps":[{"name":"run","function":"slow@1","frames":"30-34","chunking":{"mode":"auto","target":"30s"},"retries":{"attempts":3,"backoff":"1s","backoff_max":"5m"},"timeouts":{"frame":"1h","silent":"15m","chunk":"6h"},"verify":{"black":"refuse","nan":"refuse"},"allow_cpu":false}]}',1795253497799,NULL);
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
INSERT INTO "meta" VALUES('chunk_next','10002');
CREATE TABLE projects (name TEXT PRIMARY KEY, weight INTEGER NOT NULL) WITHOUT ROWID;
INSERT INTO "projects" VALUES('film',3);
CREATE TABLE results (
    job         INTEGER NOT NULL,
    step        INTEGER NOT NULL,
    task        INTEGER NOT NULL,
    key         TEXT    NOT NULL,          -- empty for a step without output
    sha256      BLOB    NOT NULL,
    size_bytes  INTEGER NOT NULL,
    width       INTEGER NOT NULL,
    height      INTEGER NOT NULL,
    device      TEXT    NOT NULL,
    renderer    TEXT    NOT NULL,
    chunk       INTEGER NOT NULL,
    attempt     INTEGER NOT NULL,
    elapsed_ms  INTEGER NOT NULL,
    memory_peak INTEGER NOT NULL,
    at          INTEGER NOT NULL,
    PRIMARY KEY (job, step, task)
) WITHOUT ROWID;
INSERT INTO "results" VALUES(1,0,0,'jobs/default/01M7YQ4SRHFBZ3BVE3FB6FWKXG/0010.txt',X'917DF3320D778DDBAA5C5C7742BC4046BF803C36ED2B050F30844ED206783469',3,0,0,'CPU','sh',1,1,2,0,1795253495620);
INSERT INTO "results" VALUES(1,0,1,'jobs/default/01M7YQ4SRHFBZ3BVE3FB6FWKXG/0011.txt',X'25D4F2A86DEB5E2574BB3210B67BB24FCC4AFB19F93A7B65A057DAA874A9D18E',3,0,0,'CPU','sh',2,1,1,0,1795253495609);
INSERT INTO "results" VALUES(1,0,2,'jobs/default/01M7YQ4SRHFBZ3BVE3FB6FWKXG/0012.txt',X'A1FB50E6C86FAE1679EF3351296FD6713411A08CF8DD1790A4FD05FAE8688164',3,0,0,'CPU','sh',3,1,1,0,1795253495642);
INSERT INTO "results" VALUES(1,0,3,'jobs/default/01M7YQ4SRHFBZ3BVE3FB6FWKXG/0013.txt',X'1A252402972F6057FA53CC172B52B9FFCA698E18311FACD0F3B06ECAAEF79E17',3,0,0,'CPU','sh',4,1,2,0,1795253495644);
INSERT INTO "results" VALUES(1,0,4,'jobs/default/01M7YQ4SRHFBZ3BVE3FB6FWKXG/0014.txt',X'9A92ADBC0CEE38EF658C71CE1B1BF8C65668F166BFB213644C895CCB1AD07A25',3,0,0,'CPU','sh',5,1,1,0,1795253495648);
INSERT INTO "results" VALUES(1,0,5,'jobs/default/01M7YQ4SRHFBZ3BVE3FB6FWKXG/0015.txt',X'238903180CC104EC2C5D8B3F20C5BC61B389EC0A967DF8CC208CDC7CD454174F',3,0,0,'CPU','sh',6,1,1,0,1795253495658);
INSERT INTO "results" VALUES(1,0,6,'jobs/default/01M7YQ4SRHFBZ3BVE3FB6FWKXG/0016.txt',X'E6C21E8D260FE71882DEBDB339D2402A2CA7648529BC2303F48649BCE0380017',3,0,0,'CPU','sh',7,1,2,0,1795253495671);
INSERT INTO "results" VALUES(1,0,7,'jobs/default/01M7YQ4SRHFBZ3BVE3FB6FWKXG/0017.txt',X'54183F4323F377B737433A1E98229EAD0FDC686F93BAB057ECB612DAA94002B5',3,0,0,'CPU','sh',8,1,1,0,1795253495671);
INSERT INTO "results" VALUES(1,0,8,'jobs/default/01M7YQ4SRHFBZ3BVE3FB6FWKXG/0018.txt',X'7EE29791FC17E986B97128845622B077FB45E349FDB80523FAC9DBA879B4AD60',3,0,0,'CPU','sh',9,1,1,0,1795253495677);
INSERT INTO "results" VALUES(1,0,9,'jobs/default/01M7YQ4SRHFBZ3BVE3FB6FWKXG/0019.txt',X'A9742EB8EE320E006666AEF25AE9AEED948247F3125C9CAFA7CF97B7E7467DD5',3,0,0,'CPU','sh',10,1,1,0,1795253495676);
INSERT INTO "results" VALUES(2,0,0,'jobs/default/01M7YQ4SW417FZ6Q634YASGY50/0001.txt',X'4355A46B19D348DC2F57C046F8EF63D4538EBB936000F3C9EE954A27460DD865',2,0,0,'CPU','sh',11,1,2,0,1795253495699);
INSERT INTO "results" VALUES(2,0,1,'jobs/default/01M7YQ4SW417FZ6Q634YASGY50/0002.txt',X'53C234E5E8472B6AC51C1AE1CAB3FE06FAD053BEB8EBFD8977B010655BFDD3C3',2,0,0,'CPU','sh',12,1,2,0,1795253495701);
INSERT INTO "results" VALUES(2,0,3,'jobs/default/01M7YQ4SW417FZ6Q634YASGY50/0004.txt',X'7DE1555DF0C2700329E815B93B32C571C3EA54DC967B89E81AB73B9972B72D1D',2,0,0,'CPU','sh',14,1,1,0,1795253495716);
INSERT INTO "results" VALUES(2,0,4,'jobs/default/01M7YQ4SW417FZ6Q634YASGY50/0005.txt',X'F0B5C2C2211C8D67ED15E75E656C7862D086E9245420892A7DE62CD9EC582A06',2,0,0,'CPU','sh',15,1,2,0,1795253495727);
INSERT INTO "results" VALUES(4,0,1,'jobs/default/01M7YQ4T009BRNPBHC8JJHWHCP/0004.txt',X'7DE1555DF0C2700329E815B93B32C571C3EA54DC967B89E81AB73B9972B72D1D',2,0,0,'CPU','sh',22,1,1,0,1795253495893);
INSERT INTO "results" VALUES(5,0,0,'',X'0000000000000000000000000000000000000000000000000000000000000000',0,0,0,'CPU','sh',24,1,402,1724416,1795253496910);
INSERT INTO "results" VALUES(5,0,1,'',X'0000000000000000000000000000000000000000000000000000000000000000',0,0,0,'CPU','sh',24,1,404,1728512,1795253497313);
INSERT INTO "results" VALUES(5,0,2,'',X'0000000000000000000000000000000000000000000000000000000000000000',0,0,0,'CPU','sh',24,1,406,1761280,1795253497720);
INSERT INTO "results" VALUES(6,0,0,'jobs/default/01M7YQ4VWK88DAGCNRPHRMNQWH/0020.txt',X'5378796307535DF3EC8D8B15A2E2DC5641419C3D3060CFE32238C0FA973F7AA3',3,0,0,'CPU','sh',27,1,2,0,1795253497805);
CREATE TABLE steps (
    job    INTEGER NOT NULL,               -- jobs.seq
    step   INTEGER NOT NULL,               -- index in the job
    name   TEXT    NOT NULL,
    state  TEXT    NOT NULL,               -- blocked ready running succeeded failed canceled
    total  INTEGER NOT NULL,
    open   INTEGER NOT NULL,
    done   INTEGER NOT NULL,
    failed INTEGER NOT NULL,
    load_s REAL,
    task_s REAL,
    PRIMARY KEY (job, step)
) WITHOUT ROWID;
INSERT INTO "steps" VALUES(1,0,'run','succeeded',10,0,10,0,5.76480100000000288042e-05,0.001199589103);
INSERT INTO "steps" VALUES(2,0,'run','failed',5,0,4,1,0.0,1.79000000000000014134e-03);
INSERT INTO "steps" VALUES(3,0,'run','canceled',50,0,0,0,NULL,NULL);
INSERT INTO "steps" VALUES(4,0,'run','running',2,0,1,0,7.00000000000000101307e-04,0.001);
INSERT INTO "steps" VALUES(5,0,'render','running',12,9,3,0,NULL,NULL);
INSERT INTO "steps" VALUES(5,1,'after','blocked',1,0,0,0,NULL,NULL);
INSERT INTO "steps" VALUES(6,0,'run','running',5,0,1,0,0.0,0.002);
INSERT INTO "steps" VALUES(7,0,'run','ready',5,2,0,0,NULL,NULL);
CREATE INDEX jobs_by_state ON jobs (state, seq);
CREATE INDEX jobs_by_project ON jobs (project, seq);
CREATE INDEX attempts_by_job ON attempts (job, chunk, attempt);
CREATE INDEX events_by_job ON events (job, seq);
CREATE INDEX idempotency_by_age ON idempotency (at);
DELETE FROM "sqlite_sequence";
INSERT INTO "sqlite_sequence" VALUES('events',91);
COMMIT;
PRAGMA user_version = 1;
