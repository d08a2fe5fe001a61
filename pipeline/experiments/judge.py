"""The judgement of an experiment. Pure: no file and no network."""

from pipeline.experiments.judgement import Judgement as Judgement
