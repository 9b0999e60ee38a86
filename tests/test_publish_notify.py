"""Notes to people elsewhere: which, when, and that nothing secret is told; sent to a real web and mail server."""

import json
import socketserver
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from test_publish_state import done

from streamtomo.config import Notify
from streamtomo.errors import SettingsError
from streamtomo.messages import VERSION, AlarmCleared, AlarmRaised, Envelope, SeriesRejected
from streamtomo.publish.notes import Note, Notes
from streamtomo.publish.notify import Notifier, secret, senders

NOON, NIGHT = 12.0, 3.0
LATE = AlarmRaised(code="tilt.late", text="no tilt for 90 s", about="/scope")
OVER = AlarmCleared(code="tilt.late", about="/scope")
GIVEN_UP = SeriesRejected(series="TS_3", by="judge", reasons=("the field left the target",))


class Story:
    """Events at times, and what is sent."""

    def __init__(self, **settings):
        self.notes = Notes(Notify(**settings), "krios", 0.0)

    def at(self, time_s, *events, hour=NOON):
        for event in events:
            self.notes.take(envelope(event, time_s))
        return [note.text for note in self.notes.due(time_s, hour)]


def envelope(event, time_s=0.0):
    return Envelope(version=VERSION, session="s", seq=1, time_s=time_s, event=event)


def test_an_alarm_is_sent_once_when_it_has_stood_and_its_end_comes_with_the_news():
    story = Story()
    assert story.at(10, LATE) == []
    assert story.at(69) == []
    assert story.at(70) == ["no tilt for 90 s"]
    assert story.at(100) == story.at(200, OVER) == []
    (news,) = story.at(3600)
    assert news.startswith("over: no tilt for 90 s")


def test_an_alarm_that_comes_and_goes_is_not_sent_again_and_again():
    story = Story(repeat_min=30.0)
    assert story.at(0, LATE) == []
    assert story.at(60) == ["no tilt for 90 s"]
    for time_s in range(100, 1700, 200):
        assert story.at(time_s, OVER) == story.at(time_s + 50, LATE) == story.at(time_s + 149) == []
    assert story.at(1860) == ["no tilt for 90 s"]


def test_one_that_is_over_soon_is_never_told():
    story = Story()
    assert story.at(0, LATE) == story.at(59, OVER) == story.at(8000) == []


def test_a_series_that_is_given_up_is_told_at_once_and_what_is_finished_in_a_digest():
    story = Story()
    assert story.at(5, done(), GIVEN_UP) == ["TS_3: not worth more beam time: the field left the target"]
    (digest,) = story.at(3600)
    assert digest.splitlines() == ["TS: finished in 1 s, 0 views", "0 tilts of 0 series since the last note"]
    assert story.at(9000) == []


def test_in_quiet_hours_only_alarms_are_sent_and_the_rest_comes_after_them():
    story = Story(quiet_hours="22-7")
    assert story.at(0, LATE, GIVEN_UP, done(), hour=NIGHT) == []
    assert story.at(7200, hour=NIGHT) == ["no tilt for 90 s"]
    assert len(story.at(9000, hour=8.0)) == 2


def test_silence_is_said_to_be_fine_but_not_while_an_alarm_stands():
    story = Story(alive_h=2.0)
    assert story.at(7199) == []
    assert story.at(7200) == ["0 tilts of 0 series since the last note"]
    assert story.at(8000, LATE) == []
    assert len(story.at(8060)) == 1
    assert story.at(20000) == []


def test_the_last_digest_does_not_wait():
    notes = Notes(Notify(), "krios", 0.0)
    notes.take(envelope(done()))
    assert len(notes.due(1.0, NOON, last=True)) == 1


def test_secrets_come_from_the_environment_or_a_file_and_are_asked_for_in_words(tmp_path, monkeypatch):
    monkeypatch.setenv("HOOK", "https://chat.example/secret")
    (tmp_path / "login").write_text("me:word\n")
    assert secret("env:HOOK", "notify.webhook") == "https://chat.example/secret"
    assert secret(f"file:{tmp_path}/login", "notify.smtp_login") == "me:word"
    for place in ("env:NONE", f"file:{tmp_path}/none"):
        with pytest.raises(SettingsError, match=r"notify\.webhook"):
            senders(Notify(webhook=place))
    monkeypatch.setenv("HOOK", "chat.example/secret")
    with pytest.raises(SettingsError) as told:
        senders(Notify(webhook="env:HOOK"))
    assert "secret" not in str(told.value)


class Hook(BaseHTTPRequestHandler):
    """A web server that keeps what is posted, and answers as it is told."""

    def do_POST(self):
        self.server.posted.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        self.send_response(self.server.status)
        self.end_headers()

    def log_message(self, *words):
        pass


class Mailbox(socketserver.StreamRequestHandler):
    """The least that is a mail server."""

    def handle(self):
        self.wfile.write(b"220 here\r\n")
        for line in self.rfile:
            if line.upper().startswith(b"DATA"):
                self.wfile.write(b"354 go on\r\n")
                for text in iter(self.rfile.readline, b".\r\n"):
                    self.server.mail.append(text.decode().rstrip())
                self.wfile.write(b"250 good\r\n")
                continue
            if line.upper().startswith(b"QUIT"):
                self.wfile.write(b"221 bye\r\n")
                return
            self.wfile.write(b"250 good\r\n")


@pytest.fixture
def served():
    servers = HTTPServer(("127.0.0.1", 0), Hook), socketserver.TCPServer(("127.0.0.1", 0), Mailbox)
    servers[0].posted, servers[0].status, servers[1].mail = [], 200, []
    threads = [threading.Thread(target=server.serve_forever, args=(0.05,)) for server in servers]
    for thread in threads:
        thread.start()
    yield servers
    for server, thread in zip(servers, threads, strict=True):
        server.shutdown()
        server.server_close()
        thread.join()


def notifier(settings, warned):
    return Notifier(settings, senders(settings), "krios", warned.append)


def test_notes_reach_a_web_server_and_a_mail_server(served, monkeypatch):
    web, mail = served
    monkeypatch.setenv("HOOK", f"http://127.0.0.1:{web.server_port}/secret")
    smtp = f"127.0.0.1:{mail.server_address[1]}"
    warned = []
    thread = notifier(Notify(webhook="env:HOOK", email_to="a@lab.example b@lab.example", smtp=smtp), warned)
    thread.start()
    thread.hear(envelope(GIVEN_UP))
    thread.stop()
    thread.join(10)
    assert [one["text"].splitlines()[0] for one in web.posted] == ["streamtomo krios: series"]
    assert "Subject: streamtomo krios: series" in mail.mail
    assert warned == []


def test_what_cannot_be_sent_is_warned_of_without_the_address_and_kept(served, monkeypatch):
    web, _ = served
    web.status = 500
    monkeypatch.setenv("HOOK", f"http://127.0.0.1:{web.server_port}/secret")
    warned = []
    thread = notifier(Notify(webhook="env:HOOK"), warned)
    thread._waiting["webhook"].append(Note("title", "text"))
    thread._send("webhook")
    assert [one.text for one in warned] == ["notes by webhook cannot be sent (status 500); they are tried again"]
    web.status = 200
    thread._send("webhook")
    assert thread._waiting["webhook"] == []
    assert len(web.posted) == 2
