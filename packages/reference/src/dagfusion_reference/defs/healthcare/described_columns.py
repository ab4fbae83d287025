"""What each column of the healthcare assets means, and what it is made from."""

OF_REGISTER = {
    "npi": "National Provider Identifier: ten digits, the last of them a check digit.",
    "organization_name": "Legal business name.",
    "tax_id": "Employer identification number, as 12-3456789.",
    "taxonomy_code": "Code of the provider taxonomy.",
    "specialty": "Name of the taxonomy.",
    "zip_code": "Five digits; the first three tell the state.",
    "provider_count": "Providers that work there.",
    "enumeration_date": "The day on which the NPI was assigned.",
}
OF_EXTRACTS = {**OF_REGISTER, "state": "The state that reports, as two letters.", "date": "The day of the report."}
OF_AGGREGATES = {
    "date": "The day.",
    "state": "The state, as two letters.",
    "organizations": "Organizations that the state reported.",
    "providers": "Providers of these organizations.",
    "mean_providers": "Providers of an organization on average, to two decimals.",
    "specialties": "Different specialties of these organizations.",
}

SOURCES_OF_EXTRACTS = {name: [name] for name in OF_REGISTER} | {"state": ["zip_code"], "date": []}
SOURCES_OF_AGGREGATES = {
    "date": ["date"],
    "state": ["state"],
    "organizations": ["npi"],
    "providers": ["provider_count"],
    "mean_providers": ["provider_count"],
    "specialties": ["specialty"],
}
