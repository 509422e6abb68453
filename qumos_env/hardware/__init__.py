"""Real devices: profiles of provider families, native circuits, and what running them costs in error, time and money.

The profiles are of gate-model qubit devices. Two machines that quantum providers sell are none, and have no profile: QuEra Aquila is an
analogue simulator of neutral atoms (it evolves them under a programmed Hamiltonian), and the Xanadu X series measures photon numbers of
squeezed light in an interferometer. A part of a design can be run on neither.
"""
