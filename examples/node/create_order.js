// A program that makes one order: node create_order.js [fixed]
const { createOrder, createOrderFixed, close } = require('./orders')

const create = process.argv[2] === 'fixed' ? createOrderFixed : createOrder
create().finally(close)
