"""Finds images and patients that occur twice in prepared sets; NumPy and OpenCV only.

    mtpret_jax data audit --config=configs/demo.py --data_dir=data --out=audit

`overlaps.audit` is the whole of it. Stage 1 obeys the list of exclusions it makes.
"""
