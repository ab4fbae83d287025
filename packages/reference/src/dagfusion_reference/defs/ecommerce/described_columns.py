"""What each column of the e-commerce assets means, and what it is made from."""

OF_EXPORT = {
    "order_id": "Number of the order.",
    "customer_id": "Number of the customer.",
    "product_id": "The product: the code of its category and a number.",
    "category": "Category of the product.",
    "channel": "Where the order was placed: web, mobile, marketplace or store.",
    "status": "delivered, shipped, processing, returned or cancelled.",
    "quantity": "Units.",
    "unit_price": "Price of a unit, in dollars.",
    "total_amount": "Quantity times unit price, in dollars.",
}
OF_ORDERS = {**OF_EXPORT, "state": "The state of the customer, as two letters.", "date": "The day of the order."}
OF_SALES = {
    "date": "The day.",
    "state": "The state, as two letters.",
    "orders": "Orders.",
    "customers": "Different customers.",
    "units": "Units sold.",
    "revenue": "Sum of the totals, in dollars.",
    "average_order_value": "Revenue of an order on average, in dollars.",
    "returned_orders": "Orders with the status returned.",
    "cancelled_orders": "Orders with the status cancelled.",
}

SOURCES_OF_ORDERS = {name: [name] for name in OF_EXPORT} | {"order_id": [], "state": [], "date": []}
SOURCES_OF_SALES = {
    "date": ["date"],
    "state": ["state"],
    "orders": [],
    "customers": ["customer_id"],
    "units": ["quantity"],
    "revenue": ["total_amount"],
    "average_order_value": ["total_amount"],
    "returned_orders": ["status"],
    "cancelled_orders": ["status"],
}
