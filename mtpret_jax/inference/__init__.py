"""From X-ray files to answers: reads, predicts, draws, writes, goes on after a stop."""
