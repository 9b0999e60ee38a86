"""Events as lines of text: for the log, and for a terminal without a dashboard."""

from __future__ import annotations

from datetime import datetime

import msgspec

from streamtomo.messages import (
    AlarmCleared,
    AlarmRaised,
    AxisMeasured,
    Envelope,
    Event,
    FileRefused,
    FileRetried,
    Finding,
    FinishAsked,
    FinishDone,
    FinishFailed,
    FinishingPaused,
    FinishingResumed,
    FinishStarted,
    FinishStep,
    FolderAdded,
    FolderTested,
    OrderGiven,
    Picture,
    SeriesCompleted,
    SeriesDescribed,
    SeriesDropped,
    SeriesJudged,
    SeriesOpened,
    SeriesReopened,
    SeriesTooFew,
    SessionEnded,
    SessionStarted,
    TiltExcluded,
    TiltFailed,
    TiltPlaced,
    TiltRealigned,
    TiltRestored,
    TiltRetried,
    VolumeSaved,
    Warned,
)


def plain_line(envelope: Envelope) -> str | None:
    """One line for an event worth a line, else None."""
    text = words(envelope.event)
    return f"{datetime.fromtimestamp(envelope.time_s):%H:%M:%S}  {printable(text)}" if text else None


def verbose_line(envelope: Envelope) -> str | None:
    """A line for every event but pictures, in full where there are no words for it."""
    event = envelope.event
    if isinstance(event, Picture):
        return None
    content = {key: value for key, value in msgspec.to_builtins(event).items() if key != "kind"}
    words = plain_line(envelope) or f"{datetime.fromtimestamp(envelope.time_s):%H:%M:%S}  {_kind(event)} {content}"
    return printable(words)


def _kind(event: Event) -> str:
    return str(event.__struct_config__.tag)


def printable(text: str) -> str:
    """The text on one line, without characters that would steer a terminal: names of files are not ours."""
    return text if text.isprintable() else "".join(one if one.isprintable() else " " for one in text)


def words(event: Event) -> str | None:
    """What happened, for people; None for what is not worth a line."""
    match event:
        case SessionStarted():
            verb = "going on with" if event.resumed else "watching"
            where = f", on the {event.device}" if event.device else ""
            program = f"streamtomo {event.program}, process {event.pid}{where}"
            return f"{verb} {event.watched}, results in {event.out} ({program})"
        case SessionEnded():
            return f"ended: {event.reason}"
        case FolderAdded():
            settings = f" with {', '.join(event.overrides)}" if event.overrides else ""
            return f"watching {event.path}{settings}"
        case FolderTested():
            return f"folder {event.path}: {'; '.join(map(_finding, event.findings))}"
        case FinishingPaused():
            return "finishing pauses: nothing is finished until it is resumed"
        case FinishingResumed():
            return "finishing goes on"
        case OrderGiven():
            return _order(event)
        case AlarmRaised():
            return f"ALARM {event.code}: {event.text}"
        case AlarmCleared():
            return f"alarm over: {event.code} {event.about}".rstrip()
        case FileRefused():
            return f"REFUSED {event.path}: {event.reason}"
        case FileRetried():
            return f"looking again at {event.path}"
        case Warned():
            return f"WARNING {event.code}: {event.text}"
        case TiltPlaced():
            return _tilt(event)
        case TiltFailed():
            again = "given up" if event.final else "to be tried again"
            return f"{event.series}  tilt {event.index} FAILED ({again}): {event.reason}"
        case _:
            return _series(event)


def _finding(one: Finding) -> str:
    return f"{'' if one.level == 'ok' else one.level.upper() + ' '}{one.about} {one.text}"


def _order(event: OrderGiven) -> str:
    words = " ".join(filter(None, map(_in_words, event.order.values())))
    return f"order from {event.by}: {words}: {event.text if event.ok else 'REFUSED, ' + event.text}"


def _in_words(value: object) -> str:
    return " ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def _tilt(event: TiltPlaced) -> str:
    at = event.placement
    where = f"shift {at.shift_x:+8.1f} {at.shift_y:+8.1f} px, peak {at.score:5.1f}" if at else "not placed"
    state = "UNPLACED, no neighbour recognised" if event.unplaced else event.verdict.state
    reasons = f": {'; '.join(event.verdict.reasons)}" if event.verdict.reasons else ""
    total = event.stage_ms.get("total", 0.0)
    return (
        f"{event.series}  tilt {event.index:3d} at {event.angle_deg:+6.1f}°  {where}, "
        f"{event.correction.repaired} px repaired, {total:.0f} ms  {state}{reasons}"
    )


def _series(event: Event) -> str | None:
    match event:
        case SeriesOpened():
            return f"{event.series}  new series, {event.nx} x {event.ny}{_described(event)}"
        case SeriesDescribed():
            return f"{event.series}  metadata{_described(event)}"
        case SeriesJudged():
            return f"{event.series}  series {event.state}{_judged(event)}"
        case AxisMeasured():
            return (
                f"{event.series}  tilt axis {event.axis_deg:.1f}° measured from {event.tilts} tilts, "
                f"nominal {event.nominal_deg:.1f}°: the measured one is used"
            )
        case SeriesCompleted():
            return f"{event.series}  complete ({event.witness}): {event.text}"
        case SeriesTooFew():
            return f"{event.series}  too few tilts: {event.usable} usable, {event.needed} needed; nothing is made of it"
        case TiltRetried():
            return f"{event.series}  tilt {event.index} is tried again{f': {event.reason}' if event.reason else ''}"
        case TiltRealigned():
            return (
                f"{event.series}  tilt {event.index} moved by {event.moved_px:.1f} px in the live volume: agreement "
                f"with all others {event.before:.2f}, now {event.after:.2f}"
            )
        case VolumeSaved():
            return f"{event.series}  live volume of {event.views} views written: {event.path}"
        case TiltExcluded():
            return f"{event.series}  tilt {event.index} left out: {event.reason}"
        case TiltRestored():
            return f"{event.series}  tilt {event.index} counts again"
        case SeriesDropped():
            return f"{event.series}  REJECTED by the operator: {event.reason}"
        case FinishAsked():
            return f"{event.series}  to be finished with {', '.join(event.overrides)}"
        case SeriesReopened():
            return f"{event.series}  open again: {event.reason}"
        case FinishStarted():
            return f"{event.series}  finishing, {event.tilts} tilts"
        case FinishStep() if not event.part:
            return f"{event.series}  finishing: {event.step}{' (is good)' if event.skipped else ''}"
        case FinishDone():
            residual = event.alignment.residual_px
            fit = f", residual {residual:.2f} px" if residual is not None else ""
            return (
                f"{event.series}  FINISHED in {event.seconds:.0f} s: {len(event.alignment.views)} views aligned by "
                f"{event.alignment.method}{fit}; {event.tomogram.path}"
            )
        case FinishFailed():
            again = "given up" if event.final else "to be tried again"
            return f"{event.series}  FINISHING FAILED ({again}): {event.reason}"
        case _:
            return None


def _judged(event: SeriesJudged) -> str:
    if event.state == "good":
        return f": {'; '.join(event.reasons) or 'nothing wrong any more'}"
    more = {
        "first tilt at fault": event.first_fault,
        "usable": event.usable,
        "forecast": event.forecast,
        "sure": f"{event.confidence:.0%}" if event.confidence is not None else "",
    }
    words = "".join(f"; {key}: {value}" for key, value in more.items() if value not in (None, ""))
    return f": {'; '.join(event.reasons)}{words}"


def _described(event: SeriesOpened | SeriesDescribed) -> str:
    words = [f"pixel {event.pixel_size_A:g} Å" if event.pixel_size_A else "pixel size unknown"]
    words.append(f"axis {event.tilt_axis_deg:.1f}°" if event.tilt_axis_deg is not None else "axis unknown")
    if event.planned_tilts:
        words.append(f"{event.planned_tilts} tilts planned")
    return ", " + ", ".join(words)
