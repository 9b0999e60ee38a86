"""What etomo needs beside `newst.com` and `tilt.com` to open the folder and to go on from any step.

`NAME.edf` tells it what the series is and what is done; `eraser.com xcorr.com prenewst.com track.com align.com` are the
steps before the aligned stack, so that each can be run again there. `NAME.st` counts as the raw stack: views left out
are in none of the files, so nothing is left for etomo to exclude. `prenewst.com` takes `NAME.prexg` as it is: the beads
in `NAME.fid` are in the pre-aligned stack that it makes. `align.com` ends with the product of both transforms: `.xf`.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from streamtomo.export.imod import write_text
from streamtomo.export.imod_coms import HEAD

FILES = ("eraser.com", "xcorr.com", "prenewst.com", "track.com", "align.com")
"""And `NAME.edf`."""
USUAL_BEAD_NM = 10.0
"""For beads of unknown size."""
BOX_RADII = 6
"""Side of the box that beadtrack searches in, in bead radii; at least LEAST_BOX_PX."""
LEAST_BOX_PX = 32


class Etomo(NamedTuple):
    """What the files say of a series; lengths in pixels of the sorted stack."""

    name: str
    pixel_nm: float
    axis_deg: float
    method: str
    """Of the alignment: "beads", "patches" or "coarse"."""
    bead_nm: float | None
    binning: int
    """Of the aligned stack."""
    size_xy: tuple[int, int]
    """Of the aligned stack, its own pixels."""
    tilts_solved: bool
    axes_solved: bool
    """Whether each view has an axis of its own."""
    mags_solved: bool
    surfaces: int
    """That the beads lie on."""

    @property
    def bead_px(self) -> float:
        """Diameter."""
        return (self.bead_nm or USUAL_BEAD_NM) / self.pixel_nm


def write(folder: Path, series: Etomo) -> list[str]:
    """All of them; their names. Raises OutputError."""
    coms = {
        "eraser.com": _eraser(series),
        "xcorr.com": _xcorr(series),
        "prenewst.com": _prenewst(series),
        "track.com": _track(series),
        "align.com": _align(series),
    }
    for name, text in coms.items():
        write_text(folder / name, HEAD.format(name=name) + text + "$if (-e ./savework) ./savework\n")
    write_text(folder / f"{series.name}.edf", edf(series))
    return [*coms, f"{series.name}.edf"]


def _entries(command: str, entries: Iterable[tuple[str, object]]) -> str:
    """A program's entries, one a line: a keyword, a tab, the value."""
    lines = (f"{key}\t{value}".rstrip() for key, value in entries)
    return f"${command} -StandardInput\n" + "".join(f"{line}\n" for line in lines)


def _eraser(series: Etomo) -> str:
    return _entries(
        "ccderaser",
        [
            ("InputFile", f"{series.name}.st"),
            ("OutputFile", f"{series.name}_fixed.st"),
            ("FindPeaks", ""),
            ("PeakCriterion", 10.0),
            ("DiffCriterion", 8.0),
            ("GrowCriterion", 4.0),
            ("ScanCriterion", 3.0),
            ("MaximumRadius", 3.6),
            ("GiantCriterion", 12.0),
            ("ExtraLargeRadius", 8.0),
            ("BigDiffCriterion", 19.0),
            ("AnnulusWidth", 2.0),
            ("XYScanSize", 100),
            ("EdgeExclusionWidth", 4),
            ("PointModel", f"{series.name}_peak.mod"),
            ("BorderSize", 2),
            ("PolynomialOrder", 2),
        ],
    )


def _xcorr(series: Etomo) -> str:
    name = series.name
    correlate = [
        ("InputFile", f"{name}.st"),
        ("OutputFile", f"{name}.prexf"),
        ("TiltFile", f"{name}.rawtlt"),
        ("RotationAngle", f"{series.axis_deg:.3f}"),
        ("FilterSigma1", 0.03),
        ("FilterRadius2", 0.25),
        ("FilterSigma2", 0.05),
    ]
    to_global = [("NumberToFit", 0), ("InputFile", f"{name}.prexf"), ("GOutputFile", f"{name}.prexg")]
    return _entries("tiltxcorr", correlate) + _entries("xftoxg", to_global)


def _prenewst(series: Etomo) -> str:
    name = series.name
    return _entries(
        "newstack",
        [
            ("InputFile", f"{name}.st"),
            ("OutputFile", f"{name}_preali.mrc"),
            ("TransformFile", f"{name}.prexg"),
            ("ModeToOutput", 0),
            ("FloatDensities", 2),
            ("BinByFactor", 1),
            ("ImagesAreBinned", 1.0),
        ],
    )


def _track(series: Etomo) -> str:
    name = series.name
    box = max(LEAST_BOX_PX, 2 * round(BOX_RADII * series.bead_px / 4))
    return _entries(
        "beadtrack",
        [
            ("ImageFile", f"{name}_preali.mrc"),
            ("ImagesAreBinned", 1),
            ("InputSeedModel", f"{name}.seed"),
            ("OutputModel", f"{name}.fid"),
            ("PrealignTransformFile", f"{name}.prexg"),
            ("RotationAngle", f"{series.axis_deg:.3f}"),
            ("TiltFile", f"{name}.rawtlt"),
            ("TiltDefaultGrouping", 7),
            ("MagDefaultGrouping", 5),
            ("RotDefaultGrouping", 1),
            ("PixelSize", f"{series.pixel_nm:.5f}"),
            ("BeadDiameter", f"{series.bead_px:.2f}"),
            ("FillGaps", ""),
            ("MaxGapSize", 5),
            ("RoundsOfTracking", 2),
            ("LocalAreaTracking", 1),
            ("LocalAreaTargetSize", 1000),
            ("MinBeadsInArea", 8),
            ("MinOverlapBeads", 5),
            ("MinViewsForTiltalign", 4),
            ("MinTiltRangeToFindAxis", 10.0),
            ("MinTiltRangeToFindAngles", 20.0),
            ("BoxSizeXandY", f"{box},{box}"),
            ("MaxBeadsToAverage", 4),
            ("PointsToFitMaxAndMin", "7,3"),
            ("DensityRescueFractionAndSD", "0.6,1.0"),
            ("DistanceRescueCriterion", 10.0),
            ("RescueRelaxationDensityAndDistance", "0.7,0.9"),
            ("PostFitRescueResidual", 2.5),
            ("DensityRelaxationPostFit", 0.9),
            ("MaxRescueDistance", 2.5),
            ("ResidualsToAnalyzeMaxAndMin", "9,5"),
            ("DeletionCriterionMinAndSD", "0.04,2.0"),
            ("SobelFilterCentering", 1),
            ("KernelSigmaForSobel", 1.5),
        ],
    )


def _align(series: Etomo) -> str:
    """The specimen's offset and height are in `tilt.com`, not here: so `.tlt` and `.xf` are again what they are now."""
    name = series.name
    solve = [
        ("ModelFile", f"{name}.fid"),
        ("ImageFile", f"{name}_preali.mrc"),
        ("ImagesAreBinned", 1),
        ("UnbinnedPixelSize", f"{series.pixel_nm:.5f}"),
        ("OutputModelFile", f"{name}.3dmod"),
        ("OutputResidualFile", f"{name}.resid"),
        ("OutputFidXYZFile", f"{name}fid.xyz"),
        ("OutputTiltFile", f"{name}.tlt"),
        ("OutputXAxisTiltFile", f"{name}.xtilt"),
        ("OutputTransformFile", f"{name}.tltxf"),
        ("RotationAngle", f"{series.axis_deg:.3f}"),
        ("TiltFile", f"{name}.rawtlt"),
        ("AngleOffset", 0.0),
        ("RotOption", 1 if series.axes_solved else -1),
        ("RotDefaultGrouping", 5),
        ("TiltOption", 5 if series.tilts_solved else 0),
        ("TiltDefaultGrouping", 5),
        ("MagReferenceView", 1),
        ("MagOption", 1 if series.mags_solved else 0),
        ("MagDefaultGrouping", 4),
        ("XStretchOption", 0),
        ("SkewOption", 0),
        ("XStretchDefaultGrouping", 7),
        ("SkewDefaultGrouping", 11),
        ("BeamTiltOption", 0),
        ("XTiltOption", 0),
        ("XTiltDefaultGrouping", 2000),
        ("ResidualReportCriterion", 3.0),
        ("SurfacesToAnalyze", series.surfaces),
        ("MetroFactor", 0.25),
        ("MaximumCycles", 1000),
        ("KFactorScaling", 1.0),
        ("AxisZShift", 0.0),
        ("LocalAlignments", 0),
        ("OutputLocalFile", f"{name}local.xf"),
    ]
    both = [
        ("InputFile1", f"{name}.prexg"),
        ("InputFile2", f"{name}.tltxf"),
        ("OutputFile", f"{name}_fid.xf"),
        ("ScaleShifts", "1.0,1.0"),
    ]
    copies = f'$b3dcopy -p "{name}_fid.xf" "{name}.xf"\n$b3dcopy -p "{name}.tlt" "{name}_fid.tlt"\n'
    shown = f'$if (-e "{name}.resid") patch2imod -s 10 "{name}.resid" "{name}.resmod"\n'
    return _entries("tiltalign", solve) + _entries("xfproduct", both) + copies + shown


STEPS = (
    "PreProcessing", "CoarseAlignment", "FiducialModel", "FineAlignment", "TomogramPositioning", "FinalAlignedStack",
    "TomogramGeneration", "PostProcessing",
)  # fmt: skip


def edf(series: Etomo) -> str:
    """`NAME.edf`: a line for each property."""
    fiducialless = str(series.method == "coarse").lower()
    x, y = series.size_xy
    properties = {
        "Setup.DatasetName": series.name,
        "Setup.DataSource": "CCD",
        "Setup.AxisType": "Single Axis",
        "Setup.ViewType": "Single View",
        "Setup.RawImageStackExt": "st",
        "Setup.OrigRawImageStackExt": "st",
        "Setup.ImageFile.ImageFilenameStyle": "MRC",
        "Setup.PixelSize": f"{series.pixel_nm:.5f}",
        "Setup.FiducialDiameter": f"{series.bead_nm or USUAL_BEAD_NM:.1f}",
        "Setup.ImageRotationA": f"{series.axis_deg:.3f}",
        "Setup.Binning": "1.0",
        "Setup.AxisA.TiltAngle.Type": "File",
        "Setup.AxisA.TiltAngle.TiltAngleFilename": "",
        "Setup.AxisA.ExcludeProjections": "",
        "Setup.Stack.A.Is.Twodir": "false",
        "Setup.FiducialessAlignmentA": fiducialless,
        "Setup.Track.A.TrackMethod": "Patch" if series.method == "patches" else "Seed",
        "Setup.Track.A.SeedModel.Auto": "true",
        "Setup.FinalStackBinningA": str(series.binning),
        "Setup.A.SizeToOutputInXandY": f"{x * series.binning},{y * series.binning}",
        "Setup.Pos.A.NewDialog": "true",
        "Setup.RevisionNumber": "1.12",
        "ReconstructionState.A.AdjustOrigin": "true",
        "ReconstructionState.InvalidEdgeFunctionsA": "no result",
        "ReconstructionState.MadeZFactorsA": "no result",
        "ReconstructionState.NewstFiducialessAlignmentA": fiducialless,
        "ReconstructionState.TrimvolFlipped": "no result",
        "ReconstructionState.UsedLocalAlignmentsA": "false",
        "ProcessTrack.RevisionNumber": "2.0",
        "ProcessTrack.Setup": "Complete",
        "ProcessTrack.CleanUp": "Not started",
        **{f"ProcessTrack.{step}{'' if step == 'PostProcessing' else '-A'}": "Complete" for step in STEPS},
    }
    lines = [f"#{time.strftime('%a %b %d %H:%M:%S UTC %Y', time.gmtime())}"]
    return "".join(f"{line}\n" for line in [*lines, *(f"{key}={_escaped(value)}" for key, value in properties.items())])


def _escaped(value: str) -> str:
    """As a file of Java's properties has it; what is no ASCII by its number."""
    plain = value.replace("\\", "\\\\")
    return "".join(letter if letter.isascii() else f"\\u{ord(letter):04x}" for letter in plain)
