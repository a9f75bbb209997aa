"""From loaded X-rays to a prepared folder, on threads or on Apache Beam."""
