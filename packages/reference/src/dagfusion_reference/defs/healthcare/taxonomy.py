"""What healthcare organizations are, and what they call themselves."""

from typing import NamedTuple


class Taxonomy(NamedTuple):
    """A NUCC taxonomy, how common it is, how many providers such an organization has (median), and its trade names."""

    code: str
    specialty: str
    weight: float
    providers: int
    names: tuple[str, ...]


TAXONOMIES = (
    Taxonomy("193200000X", "Multi-Specialty Group", 14, 18, ("Medical Group", "Physicians", "Medical Associates")),
    Taxonomy("193400000X", "Single Specialty Group", 12, 7, ("Cardiology", "Orthopedics", "Pediatrics", "Dermatology")),
    Taxonomy("261QP2300X", "Primary Care Clinic", 13, 6, ("Family Health Center", "Primary Care", "Family Medicine")),
    Taxonomy("261QD0000X", "Dental Clinic", 9, 4, ("Dental Care", "Family Dentistry", "Dental Group")),
    Taxonomy("261QM0801X", "Mental Health Clinic", 8, 9, ("Behavioral Health", "Counseling Center", "Wellness Center")),
    Taxonomy("3336C0003X", "Community Pharmacy", 8, 3, ("Pharmacy", "Drug Store", "Apothecary")),
    Taxonomy("251E00000X", "Home Health Agency", 6, 22, ("Home Health", "Home Care", "Visiting Nurses")),
    Taxonomy("314000000X", "Skilled Nursing Facility", 5, 35, ("Nursing and Rehabilitation", "Care Center", "Manor")),
    Taxonomy("261QU0200X", "Urgent Care Clinic", 5, 8, ("Urgent Care", "Express Care", "Immediate Care")),
    Taxonomy("332B00000X", "Medical Equipment Supplier", 4, 2, ("Medical Supply", "Home Medical", "Mobility")),
    Taxonomy("291U00000X", "Clinical Laboratory", 4, 5, ("Diagnostics", "Clinical Laboratory", "Pathology")),
    Taxonomy("261QA1903X", "Ambulatory Surgery Center", 3, 14, ("Surgery Center", "Surgical Institute")),
    Taxonomy("261QR0200X", "Radiology Clinic", 3, 8, ("Imaging Center", "Radiology", "Open MRI")),
    Taxonomy("251G00000X", "Hospice", 2, 16, ("Hospice", "Palliative Care")),
    Taxonomy("282N00000X", "General Acute Care Hospital", 2, 240, ("Regional Medical Center", "Memorial Hospital")),
    Taxonomy("261QE0700X", "Dialysis Clinic", 2, 10, ("Dialysis Center", "Kidney Care")),
)

PLACES = (
    *("Cedar", "Maple", "Oak", "Pine", "Willow", "Aspen", "Magnolia", "Juniper", "Silver", "Golden", "Stone"),
    *("Clear", "Bright", "Summit", "Prairie", "Harbor", "Lake", "River", "North", "South", "East", "West", "Liberty"),
    *("Heritage", "Franklin", "Jefferson", "Madison", "Lincoln", "Hamilton", "Monroe", "Mercy", "Saint Mary's"),
)
FEATURES = (
    *("Ridge", "Valley", "Creek", "Grove", "Point", "Hills", "Park", "Springs", "Meadows", "Crossing", "Bay", "Falls"),
    *("Square", "County", "Heights", "Shore", "Landing", "Bend", "Gate", "Bridge"),
)
LEGAL_FORMS = ("LLC", "PLLC", "Inc", "PC", "LLP")
LEGAL_FORM_WEIGHTS = (42, 18, 24, 12, 4)

# The first two digits of an EIN: the IRS campus or the internet range that gave it out.
EIN_PREFIXES = (
    *(10, 12, 20, 26, 27, 30, 32, 35, 36, 37, 38, 45, 46, 47, 52, 54, 56, 58, 59, 61, 62, 63, 65, 71, 73, 74, 75, 76),
    *(81, 82, 83, 84, 85, 86, 87, 88, 91, 92, 93, 94, 95),
)
