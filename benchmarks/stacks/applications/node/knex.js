// Knex, a query builder over node-postgres.
const knex = require('knex')({
  client: 'pg',
  connection: process.env.DATABASE_URL,
  pool: { min: 0, max: Number(process.env.POOL || 10) },
})
const { retry, run } = require('./shop')

async function createOrder(orders) {
  const [{ last }] = await orders('orders').max('number as last')
  await orders('orders').insert({ number: (last ?? 0) + 1 })
  return (last ?? 0) + 1
}

run(
  {
    transaction: () => knex.transaction(createOrder),
    autocommit: () => createOrder(knex),
    locked: () =>
      knex.transaction(async (orders) => {
        await orders.raw('SELECT pg_advisory_xact_lock(42)')
        return createOrder(orders)
      }),
    unique: () => retry((error) => error.code === '23505', () => knex.transaction(createOrder)),
  },
  () => knex.destroy(),
)
