"""How `jaxsound.predict` prints: a table for people, CSV and JSON for programs."""

import csv
import json
from typing import Any, TextIO

from jaxsound.serving.prediction import Prediction, Segment


class Table:
    """A line a file: its name, and the first classes with their probabilities."""

    def __init__(self, out: TextIO, top: int, timeline: bool, threshold: float):
        self.out = out
        self.top = top
        self.timeline = timeline
        self.threshold = threshold

    def write(self, path: str, prediction: Prediction) -> None:
        """Prints one recording."""
        found = "silence"
        if not prediction.silent:
            found = "  ".join(f"{n} {100 * p:.1f} %" for n, p in prediction.top(self.top))
        print(f"{path}  {found}", file=self.out, flush=True)
        for segment in prediction.timeline(self.threshold) if self.timeline else ():
            share = f"{100 * segment.probability:.1f} %"
            span = f"{clock(segment.start)} to {clock(segment.end)}"
            print(f"  {span}  {segment.label} {share}", file=self.out, flush=True)

    def close(self) -> None:
        """Nothing is left to print."""


class Csv(Table):
    """A row a file; with the timeline, a row a segment."""

    def __init__(self, out: TextIO, top: int, timeline: bool, threshold: float):
        super().__init__(out, top, timeline, threshold)
        self.rows = csv.writer(out, lineterminator="\n")
        self.begun = False

    def write(self, path: str, prediction: Prediction) -> None:
        """Prints one recording's rows, after the header before the first."""
        best = prediction.top(self.top)
        if not self.begun:
            ranks = [
                f"{name}_{i + 1}" for i in range(len(best)) for name in ("class", "probability")
            ]
            span = ["path", "start", "end", "class", "probability"]
            self.rows.writerow(span if self.timeline else ["path", "seconds", "silent", *ranks])
            self.begun = True
        if self.timeline:
            for s in prediction.timeline(self.threshold):
                span = [f"{s.start:.3f}", f"{s.end:.3f}"]
                self.rows.writerow([path, *span, s.label, f"{s.probability:.6f}"])
        else:
            cells = [cell for name, p in best for cell in (name, f"{p:.6f}")]
            self.rows.writerow([path, f"{prediction.seconds:.3f}", int(prediction.silent), *cells])
        self.out.flush()


class Json(Table):
    """One array with an object for each file, written as the files are done."""

    begun = False

    def write(self, path: str, prediction: Prediction) -> None:
        """Prints one recording's object."""
        found = {"path": path} | as_json(prediction, self.top)
        if self.timeline:
            found["timeline"] = [segment_json(s) for s in prediction.timeline(self.threshold)]
        line = json.dumps(found, ensure_ascii=False)
        print(",\n" if self.begun else "[\n", line, sep="", end="", file=self.out, flush=True)
        self.begun = True

    def close(self) -> None:
        """Ends the array."""
        print("\n]" if self.begun else "[]", file=self.out, flush=True)


FORMATS: dict[str, type[Table]] = {"table": Table, "csv": Csv, "json": Json}


def as_json(prediction: Prediction, top: int) -> dict[str, Any]:
    """A prediction's answer for the whole recording."""
    best = [{"class": name, "probability": round(p, 6)} for name, p in prediction.top(top)]
    return {"seconds": round(prediction.seconds, 3), "silent": prediction.silent, "classes": best}


def segment_json(segment: Segment) -> dict[str, Any]:
    """A segment of the timeline."""
    return {
        "start": round(segment.start, 3),
        "end": round(segment.end, 3),
        "class": segment.label,
        "probability": round(segment.probability, 6),
    }


def clock(seconds: float) -> str:
    """1:02:03.5, or 2:03.5 within the first hour."""
    minutes, rest = divmod(round(seconds, 1), 60)
    hours, minutes = divmod(int(minutes), 60)
    return f"{hours}:{minutes:02d}:{rest:04.1f}" if hours else f"{minutes}:{rest:04.1f}"
